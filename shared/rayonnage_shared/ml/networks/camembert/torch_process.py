"""Run a module of this package in a separate environment with torch.

This module is both parent and child. They share a folder of plain files; the child reports progress and errors as JSON
lines on standard output. It may import only modules that need nothing beyond NumPy and the standard library.
"""

from __future__ import annotations

import json
import os
import queue
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import rayonnage_shared
from rayonnage_shared.core.errors import BadInput, DependencyDown, RayonnageError
from rayonnage_shared.core.parent_process import die_with
from rayonnage_shared.ml.base.model import FamilyNotTrainable
from rayonnage_shared.ml.base.progress import Progress

_HEARTBEAT_S = 1.0
"""Maximum time between two calls of the progress callback, which can stop the work."""
_SILENCE_S = 1800.0
"""A child silent for this long is stuck; the longest silent step is a download of some 500 MB."""
_STEPS_APART_S = 0.5
_LAST_LINES = 12
_NEEDED = ("torch", "transformers", "onnxscript")
_PROBE = f"from importlib.util import find_spec; print(*[name for name in {_NEEDED} if find_spec(name) is None])"
_PROBE_S = 30.0
_OF_ANOTHER_PYTHON = ("PYTHONPATH", "PYTHONHOME", "VIRTUAL_ENV")


class WeightsUnavailable(DependencyDown):
    code, title = "weights_unavailable", "Pretrained weights are not available"


class TorchTrainingFailed(RayonnageError):
    code, title = "torch_training_failed", "The training in the torch environment failed"


Lines = queue.SimpleQueue[str | None]
"""The child's output, line by line, and None at its end."""

_FAILURES: Mapping[str, type[RayonnageError]] = {
    one.code: one for one in (BadInput, FamilyNotTrainable, WeightsUnavailable)
}


def check_torch(python: Path) -> None:
    """Raise FamilyNotTrainable unless `python` is an interpreter whose environment has torch; imports none of it."""
    python = _interpreter(python)
    try:
        found = subprocess.run(
            [str(python), "-I", "-c", _PROBE],
            capture_output=True,
            check=True,
            timeout=_PROBE_S,
            encoding="utf-8",
            errors="replace",
        )
    except (OSError, subprocess.SubprocessError) as err:
        raise FamilyNotTrainable(f"{python} cannot be run ({err}); `make camembert-env` makes it anew.") from err
    if found.stdout.strip():
        missing = ", ".join(found.stdout.split())
        raise FamilyNotTrainable(f"{python} lacks {missing}; install deployments/camembert/requirements.txt into it.")


def _interpreter(python: Path) -> Path:
    """Return the absolute path of an interpreter. Raises FamilyNotTrainable if there is none."""
    python = python.absolute()  # not resolved: the location of the link makes it an environment
    if not os.access(python, os.X_OK) or python.is_dir():
        raise FamilyNotTrainable(
            f"This family is trained in a separate environment, but there is no interpreter at {python}. "
            "Run `make camembert-env`, or set CAMEMBERT_PYTHON to one with deployments/camembert/requirements.txt."
        )
    return python


def run_in_torch(python: Path, module: str, folder: Path, progress: Progress) -> None:
    """Run `python -m module folder` to its end. The child never outlives this function or this process.

    An exception of `progress` stops it. Raises FamilyNotTrainable, TorchTrainingFailed, or BadInput and
    WeightsUnavailable of the module.
    """
    python = _interpreter(python)
    with _started(python, module, folder) as (process, lines):
        failure = _follow(lines, progress)
        status = process.wait()
    if failure is not None:
        raise _FAILURES[failure["code"]](failure["detail"])
    if status != 0:
        errors = (folder / "stderr.txt").read_text(encoding="utf-8", errors="replace").strip().splitlines()
        raise TorchTrainingFailed(f"{module} ended with status {status}: " + "\n".join(errors[-_LAST_LINES:]))


@contextmanager
def _started(python: Path, module: str, folder: Path) -> Iterator[tuple[subprocess.Popen[str], Lines]]:
    """Yield the child and its output lines; kill it and its children afterwards."""
    environment = {name: value for name, value in os.environ.items() if name not in _OF_ANOTHER_PYTHON}
    environment |= {"PYTHONPATH": str(_code(folder)), "PYTHONDONTWRITEBYTECODE": "1", "PYTHONIOENCODING": "utf-8"}
    # Threads that wait without sleeping take the cores from predict: a training of 200 texts beside other work took
    # 16 s of CPU time and not 72 s, and a quarter of the time on the clock.
    environment.setdefault("OMP_WAIT_POLICY", "PASSIVE")
    with (folder / "stderr.txt").open("wb") as errors:
        process = subprocess.Popen(
            [str(python), "-m", module, str(folder.absolute()), str(os.getpid())],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=errors,
            env=environment,
            encoding="utf-8",
            start_new_session=True,
        )
    lines: Lines = queue.SimpleQueue()
    with process:
        reader = threading.Thread(target=_read, args=(process, lines), name="torch-lines", daemon=True)
        reader.start()
        try:
            yield process, lines
        finally:
            if process.poll() is None:
                os.killpg(process.pid, signal.SIGKILL)
            reader.join()


def _code(folder: Path) -> Path:
    """Return an import folder with this package alone, not the other packages installed here."""
    code = folder / "code"
    code.mkdir(exist_ok=True)
    link = code / "rayonnage_shared"
    link.unlink(missing_ok=True)
    link.symlink_to(Path(rayonnage_shared.__file__).resolve().parent)
    return code


def _follow(lines: Lines, progress: Progress) -> dict[str, str] | None:
    """Forward the child's reports until it closes its output; return the failure it reported."""
    report, heard_at, failure = (0.0, "starting torch"), time.monotonic(), None
    while True:
        progress(*report)
        try:
            line = lines.get(timeout=_HEARTBEAT_S)
        except queue.Empty:
            if time.monotonic() - heard_at > _SILENCE_S:
                raise TorchTrainingFailed(
                    f"The torch process was silent for {_SILENCE_S:.0f} s and was killed."
                ) from None
            continue
        heard_at = time.monotonic()
        if line is None:
            return failure
        document = json.loads(line)
        if "code" in document:
            failure = document
        else:
            report = (float(document["fraction"]), str(document["message"]))


def _read(process: subprocess.Popen[str], lines: Lines) -> None:
    assert process.stdout is not None
    try:
        for line in process.stdout:
            lines.put(line)
    finally:
        lines.put(None)


def serve_parent(work: Callable[[Path, Progress], None]) -> int:
    """In the child: run `work` in the folder of the command line, report to the parent, and return the exit status.

    Only this function writes to the parent; output of libraries goes to standard error.
    """
    folder, parent = Path(sys.argv[1]), int(sys.argv[2])
    die_with(parent)
    lines = os.fdopen(os.dup(1), "w", buffering=1, encoding="utf-8")
    os.dup2(2, 1)

    def send(document: dict[str, Any]) -> None:
        lines.write(json.dumps(document) + "\n")

    told_at = 0.0

    def progress(fraction: float, message: str) -> None:
        nonlocal told_at
        if time.monotonic() - told_at >= _STEPS_APART_S:
            told_at = time.monotonic()
            send({"fraction": fraction, "message": message})

    try:
        work(folder, progress)
    except ModuleNotFoundError as err:
        detail = f"{sys.executable} lacks {err.name}; install deployments/camembert/requirements.txt into it."
        send({"code": FamilyNotTrainable.code, "detail": detail})
        return 1
    except tuple(_FAILURES.values()) as err:
        send({"code": err.code, "detail": err.detail})
        return 1
    return 0
