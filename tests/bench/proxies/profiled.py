"""The gateway under cProfile, by CPU time: from SIGUSR1 to SIGUSR2, which writes to the file of the first argument."""

from __future__ import annotations

import cProfile
import pstats
import signal
import sys
import time
from collections import Counter
from pathlib import Path

from rayonnage_gateway.__main__ import main

_SHOWN = 30
_UNNAMED = ("built-in functions", "system calls", "standard library")
_SYSTEM_CALLS = frozenset(
    f"<method '{method}' of 'uvloop.loop.UVStream' objects>" for method in ("write", "writelines")
)


def _write(profile: cProfile.Profile, path: Path) -> None:
    profile.disable()
    stats = pstats.Stats(profile)
    packages: Counter[str] = Counter()
    functions: Counter[str] = Counter()
    for (file, _line, name), (_calls, _primitive, own_s, with_called_s, _callers) in stats.stats.items():  # type: ignore[attr-defined]
        package = _package(file, name)
        packages[package] += own_s
        if package not in _UNNAMED:
            functions[f"`{name}` in {package}/{Path(file).name}"] += with_called_s
    total = sum(packages.values())
    lines = ["| part | share of CPU |", "|---|---|"]
    lines += [f"| {name} | {100 * own_s / total:.1f} % |" for name, own_s in packages.most_common(_SHOWN)]
    lines += ["", "| function, with what it calls | share of CPU |", "|---|---|"]
    lines += [f"| {name} | {100 * own_s / total:.1f} % |" for name, own_s in functions.most_common(_SHOWN)]
    path.write_text("\n".join(lines))


def _package(file: str, name: str) -> str:
    parts = Path(file).parts
    if "site-packages" in parts:
        return parts[parts.index("site-packages") + 1]
    if file.startswith(("~", "<")):
        return "system calls" if name in _SYSTEM_CALLS else "built-in functions"
    for root in ("rayonnage_gateway", "rayonnage_shared"):
        if root in parts:
            return "/".join(parts[parts.index(root) : -1])
    return "standard library"


if __name__ == "__main__":
    profile = cProfile.Profile(timer=time.thread_time)
    signal.signal(signal.SIGUSR2, lambda *_: _write(profile, Path(sys.argv[1])))
    signal.signal(signal.SIGUSR1, lambda *_: profile.enable())
    main()
