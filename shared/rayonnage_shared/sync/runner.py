"""Run the sync targets: bring MLflow and DVC up to date with the volumes.

The folders of models and data are the source of truth. Each target compares them with its marker files
(`<volume>/.synced/<target>/…`); whatever has no marker is pending, so there is no queue that could be lost. Training,
promotion and prediction never wait for a target: the train worker starts one child process (`rayonnage_train.sync`)
when something is pending, and the command line syncs after its own work and only warns about failures.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TextIO

import structlog

from rayonnage_shared.core.files import FileLocked, open_locked
from rayonnage_shared.core.optional_parts import DVC, MLFLOW, OptionalPart
from rayonnage_shared.sync.base import MARKERS_FOLDER, Say, SyncTarget, SyncTargetUnavailable
from rayonnage_shared.sync.settings import SyncSettings

log = structlog.get_logger()


def sync_targets(settings: SyncSettings) -> list[SyncTarget]:
    """Return the sync targets that are configured and installed. Each imports its heavy libraries when it syncs."""
    from rayonnage_shared.sync.dvc.target import DvcTarget
    from rayonnage_shared.sync.mlflow.target import MlflowTarget
    from rayonnage_shared.sync.mlflow.traffic import TrafficTarget

    found: list[SyncTarget] = []
    if settings.mlflow_tracking_uri and MLFLOW.is_installed():
        found += [MlflowTarget(settings), TrafficTarget(settings)]
    if settings.dvc_remote_url and DVC.is_installed():
        found.append(DvcTarget(settings))
    return found


def missing_parts(settings: SyncSettings, *, asked_for: bool = False) -> list[OptionalPart]:
    """Return the parts that configured targets need and that are not installed.

    With `asked_for`, only those whose address somebody has set; the defaults of both addresses ask for nothing.
    """
    needed = {"mlflow_tracking_uri": MLFLOW, "dvc_remote_url": DVC}
    return [
        part
        for name, part in needed.items()
        if getattr(settings, name) and not part.is_installed() and (name in settings.model_fields_set or not asked_for)
    ]


@dataclass(frozen=True, slots=True)
class Result:
    """The outcome for one target; `detail` says why it is not up to date."""

    target: str
    status: Literal["nothing to do", "done", "busy", "away", "failed"]
    detail: str = ""

    @property
    def behind(self) -> bool:
        """Whether work is left to do."""
        return self.status in ("busy", "away", "failed")


def sync(settings: SyncSettings, say: Say, chosen: Sequence[SyncTarget] | None = None) -> list[Result]:
    """Sync all targets, or those chosen. A target that fails neither raises nor stops the next one."""
    return [_sync(one, settings, say) for one in (sync_targets(settings) if chosen is None else chosen)]


def last_success(settings: SyncSettings, name: str) -> float | None:
    """Return when a target last finished all its work, in seconds since 1970; None if it never has."""
    try:
        return _success_path(settings, name).stat().st_mtime
    except FileNotFoundError:
        return None


def _sync(target: SyncTarget, settings: SyncSettings, say: Say) -> Result:
    name = target.name
    try:
        with lock_target(settings, name):
            if not target.pending():
                return Result(name, "nothing to do")
            target.sync(say)
            _success_path(settings, name).touch()
    except FileLocked:
        return Result(name, "busy", "Another process is syncing it right now.")
    except SyncTargetUnavailable as error:
        return Result(name, "away", error.detail)
    except Exception as error:  # one target must not stop the others
        log.exception("sync.failed", target=name)
        return Result(name, "failed", f"{type(error).__name__}: {error}")
    return Result(name, "done")


def lock_target(settings: SyncSettings, name: str) -> TextIO:
    """Return the open lock file of this target; closing it frees the lock. Raises FileLocked."""
    return open_locked(settings.models_path / MARKERS_FOLDER / f"{name}.lock", wait_s=0)


def _success_path(settings: SyncSettings, name: str) -> Path:
    return settings.models_path / MARKERS_FOLDER / f"{name}.success"
