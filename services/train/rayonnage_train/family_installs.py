"""Install what a family needs to be trained, as `make keras` and `make camembert-env` do; only in a checkout.

An installation is never stopped with its job: one that was killed halfway would leave an environment that the next
installation replaces, under the feet of the running platform.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from collections import deque
from pathlib import Path

import structlog

from rayonnage_shared.core.errors import DependencyDown
from rayonnage_shared.core.files import is_locked
from rayonnage_shared.ml.training.requests import PipelineRequest
from rayonnage_shared.ml.training.validation import missing_installs
from rayonnage_shared.pipelines.run_context import RunContext
from rayonnage_train.children import exited_within
from rayonnage_train.settings import TrainSettings

log = structlog.get_logger()

HOME = Path()
_OF_MAKE = ("MAKEFLAGS", "MFLAGS", "MAKELEVEL")
_LAST_LINES = 12
_POLL_S = 0.2


class InstallFailed(DependencyDown):
    code, title = "install_failed", "The installation failed"


def may_install(settings: TrainSettings) -> bool:
    """Return whether jobs install what their families lack: it is allowed, and this is a checkout with `make`."""
    return settings.train_install_families and (HOME / "Makefile").is_file() and shutil.which("make") is not None


def install_missing(request: PipelineRequest, run: RunContext[TrainSettings]) -> bool:
    """Install what the request's families lack here, and log the output; return whether anything was installed.

    Only a fresh process can import what was installed. Raises InstallFailed, or what the run's progress raises.
    """
    if not may_install(run.settings):
        return False
    targets = missing_installs(request.training())
    for target in targets:
        run.enter("install", f"make {target}")
        _make(target, run)
    return bool(targets)


def _make(target: str, run: RunContext[TrainSettings]) -> None:
    _refuse_interrupted(target)
    run.work.mkdir(parents=True, exist_ok=True)
    limit_s, last = run.settings.train_install_timeout_s, deque[str](maxlen=_LAST_LINES)
    deadline = time.monotonic() + limit_s
    # To a file, so that the installation is not ended by a broken pipe when this process is stopped.
    with (
        (run.work / "install.txt").open("w", encoding="utf-8") as output,
        (run.work / "install.txt").open(encoding="utf-8", errors="replace") as written,
    ):
        process = subprocess.Popen(
            [shutil.which("make") or "make", "--no-print-directory", target],
            cwd=HOME,
            env=_environment(),
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
        )
        ended = False
        while not ended:
            ended = exited_within(process, _POLL_S)
            for line in written:
                last.append(line.rstrip())
                log.info("install.output", target=target, line=last[-1])
            run.progress(0.0, last[-1] if last else f"make {target}")
            if not ended and time.monotonic() > deadline:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()
                raise InstallFailed(f"`make {target}` was stopped after {limit_s:g} s (TRAIN_INSTALL_TIMEOUT_S).")
    if process.returncode != 0:
        raise InstallFailed(f"`make {target}` ended with status {process.returncode}: " + "\n".join(last))
    log.info("install.succeeded", target=target)


def _refuse_interrupted(target: str) -> None:
    """Raise InstallFailed if an earlier installation was killed: the next one makes `.venv` anew."""
    folder = HOME / ".run"
    if (folder / "installing").exists() and not is_locked(folder / "bootstrap.lock"):
        raise InstallFailed(f"An earlier installation was interrupted; run `make stop`, then `make {target}`.")


def _environment() -> dict[str, str]:
    """Return this process's environment without settings, which include secrets, and without its own `.venv`."""
    left_out = {*_OF_MAKE, *(name.upper() for name in TrainSettings.model_fields)}
    environment = {name: value for name, value in os.environ.items() if name.upper() not in left_out}
    own = str(Path(sys.prefix) / "bin")
    environment["PATH"] = os.pathsep.join(
        folder for folder in os.environ.get("PATH", os.defpath).split(os.pathsep) if folder != own
    )
    return environment
