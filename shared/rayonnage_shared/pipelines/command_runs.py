"""Trainings and searches by command: the same command resumes one that was killed or interrupted."""

from __future__ import annotations

import hashlib
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from rayonnage_shared.core.errors import Conflict
from rayonnage_shared.core.files import FileLocked, is_locked, open_locked
from rayonnage_shared.ml.training.provenance import code_version
from rayonnage_shared.ml.training.requests import PipelineRequest
from rayonnage_shared.pipelines.run_context import work_folder

ABANDONED_S = 7 * 86_400
_PREFIX = "cli-"
_LOCK = "lock"


class AlreadyRunning(Conflict):
    code, title = "already_running", "The same command is already running"


@dataclass(frozen=True, slots=True)
class CommandRun:
    """A run by command; its id is a hash of the request and the code, by which the same command finds its work."""

    id: str
    resumed: bool
    """Whether an earlier run left finished work."""


@contextmanager
def resumable_run(models_path: Path, request: PipelineRequest) -> Iterator[CommandRun]:
    """Hold the run of a validated request; afterwards remove its work, unless it was interrupted.

    Work that nobody resumed for a week is removed too. Raises AlreadyRunning.
    """
    _remove_abandoned(models_path)
    content = f"{type(request).__name__} {code_version()} {request.model_dump_json()}"
    command = f"{_PREFIX}{hashlib.sha256(content.encode()).hexdigest()[:16]}"
    work = work_folder(models_path, command)
    resumed = work.exists() and any(path.name != _LOCK for path in work.iterdir())
    try:
        lock = open_locked(work / _LOCK, wait_s=0)
    except FileLocked as err:
        raise AlreadyRunning("The same command runs in another process; wait for it, or stop it.") from err
    with lock:
        try:
            yield CommandRun(command, resumed)
        except Exception:  # it would fail again; Ctrl-C is not among these
            shutil.rmtree(work, ignore_errors=True)
            raise
        shutil.rmtree(work, ignore_errors=True)


def _remove_abandoned(models_path: Path) -> None:
    for work in work_folder(models_path, "").glob(f"{_PREFIX}*"):
        if time.time() - work.stat().st_mtime > ABANDONED_S and not is_locked(work / _LOCK):
            shutil.rmtree(work, ignore_errors=True)
