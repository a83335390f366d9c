"""What follows the volumes: MLflow, DVC and whatever else is brought up to date after the fact.

The folders of models and data are the truth. A follower compares them with the marker files of what it has done
(`<volume>/.synced/<follower>/…`), and whatever lacks a marker is to do; there is no queue that could be lost. Nothing
ever waits for a follower: the train worker starts one child process (`rayonnage_train.sync`) when something is
pending, and the command line calls `follow` at its end and only warns.
"""

from __future__ import annotations

import contextlib
import fcntl
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import structlog

from rayonnage_shared.sync.base import MARKERS_FOLDER, Say, SyncTarget, SyncTargetUnavailable
from rayonnage_shared.sync.settings import SyncSettings

log = structlog.get_logger()


def followers(settings: SyncSettings) -> list[SyncTarget]:
    """Return all followers that the settings ask for; cheap, nothing is opened."""
    from rayonnage_shared.sync.dvc.target import DvcTarget
    from rayonnage_shared.sync.mlflow.target import MlflowTarget
    from rayonnage_shared.sync.mlflow.traffic import TrafficTarget

    # What a follower needs that is heavy it imports when it follows.
    found: list[SyncTarget] = []
    if settings.mlflow_tracking_uri:
        found += [MlflowTarget(settings), TrafficTarget(settings)]
    if settings.dvc_remote_url:
        found.append(DvcTarget(settings))
    return found


@dataclass(frozen=True, slots=True)
class Result:
    """How one follower fared; `detail` is a sentence when it is not up to date now."""

    follower: str
    status: Literal["nothing to do", "done", "busy", "away", "failed"]
    detail: str = ""

    @property
    def behind(self) -> bool:
        """Whether something is left to do."""
        return self.status in ("busy", "away", "failed")


def follow(settings: SyncSettings, say: Say, chosen: Sequence[SyncTarget] | None = None) -> list[Result]:
    """Let every follower (or those chosen) do what is pending; trouble with one neither raises nor stops the next."""
    return [_follow(one, settings, say) for one in (followers(settings) if chosen is None else chosen)]


def last_success(settings: SyncSettings, name: str) -> float | None:
    """Return when a follower last did all that was pending, as seconds since 1970; None before the first time."""
    try:
        return _success_path(settings, name).stat().st_mtime
    except FileNotFoundError:
        return None


def _follow(follower: SyncTarget, settings: SyncSettings, say: Say) -> Result:
    name = follower.name
    try:
        with only_one(settings, name):
            if not follower.pending():
                return Result(name, "nothing to do")
            follower.follow(say)
            _success_path(settings, name).touch()
    except Busy:
        return Result(name, "busy", "Another process is doing this right now.")
    except SyncTargetUnavailable as error:
        return Result(name, "away", error.detail)
    except Exception as error:  # whatever it was must not keep the other followers from their work
        log.exception("follower.failed", follower=name)
        return Result(name, "failed", f"{type(error).__name__}: {error}")
    return Result(name, "done")


class Busy(Exception):
    """Another process is at work for the same follower."""


@contextlib.contextmanager
def only_one(settings: SyncSettings, name: str) -> Iterator[None]:
    """Keep every other process from working for this follower. Raises Busy."""
    path = settings.models_path / MARKERS_FOLDER / f"{name}.lock"
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise Busy from error
        yield


def _success_path(settings: SyncSettings, name: str) -> Path:
    return settings.models_path / MARKERS_FOLDER / f"{name}.success"
