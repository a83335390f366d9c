"""The environments of the peers, one each, in `.bench/`: what `requirements/NAME.txt` pins, and Rayonnage's sources.

`python -m tests.bench.peers.environments` resolves the `.txt` files again, from `requirements/NAME.in` and what
`predict` needs.
"""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

REPOSITORY = Path(__file__).parents[3]
REQUIREMENTS = Path(__file__).parent / "requirements"
PYTHON_VERSION = "3.11"
INSTALL_LIMIT_S = 900


class CannotInstall(Exception):
    """An environment that cannot be installed here; the message is the installer's last line."""


def python_of(name: str) -> Path:
    """Return the interpreter of an environment, installed if it is missing or outdated. Raises CannotInstall."""
    folder = REPOSITORY / ".bench" / name
    pinned = REQUIREMENTS / f"{name}.txt"
    done = folder / "installed.txt"
    python = folder / "bin" / "python"
    if not done.is_file() or done.read_bytes() != pinned.read_bytes():
        _uv("venv", "--quiet", "--clear", "--python", PYTHON_VERSION, str(folder))
        _uv("pip", "install", "--quiet", "--python", str(python), "--requirements", str(pinned))
        done.write_bytes(pinned.read_bytes())
    return python


def environment(name: str) -> dict[str, str]:
    """Return the environment variables of a server: its own programs first, one thread for each numerical library."""
    return {
        **os.environ,
        "PATH": f"{REPOSITORY / '.bench' / name / 'bin'}:{os.environ['PATH']}",
        "PYTHONPATH": f"{REPOSITORY}:{REPOSITORY / 'shared'}",
        "OMP_NUM_THREADS": "1",
        "OPENBLAS_NUM_THREADS": "1",
    }


def lock() -> None:
    """Write `requirements/NAME.txt` for every `NAME.in`."""
    for wanted in sorted(REQUIREMENTS.glob("*.in")):
        serve = [] if wanted.stem == "keras" else ["shared/pyproject.toml", "--extra", "serve"]
        output = wanted.with_suffix(".txt").relative_to(REPOSITORY)
        options = ["--quiet", "--no-header", "--no-annotate", "--python-version", PYTHON_VERSION]
        _uv("pip", "compile", *options, "--output-file", str(output), *serve, str(wanted.relative_to(REPOSITORY)))


def _uv(*arguments: str) -> None:
    local = REPOSITORY / ".uv" / "bin" / "uv"
    command = [str(local) if local.is_file() else "uv", *arguments]
    try:
        done = subprocess.run(
            command, cwd=REPOSITORY, check=False, capture_output=True, text=True, timeout=INSTALL_LIMIT_S
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise CannotInstall(str(error)) from error
    if done.returncode != 0:
        raise CannotInstall((done.stderr.strip().splitlines() or ["uv failed"])[-1])


if __name__ == "__main__":
    lock()
