"""What follows the volumes: MLflow, DVC and whatever else is brought up to date after the fact.

The folders of models and data are the truth. A follower compares them with the marker files of what it has done
(`<volume>/.followed/<follower>/…`), and whatever lacks a marker is to do; there is no queue that could be lost. Nothing
ever waits for a follower: the train worker starts one child process (`rayonnage_train.follow_up`) when something is
pending, and the command line calls `follow` at its end and only warns.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol

import structlog

from rayonnage_shared.atomic_files import write_atomically
from rayonnage_shared.errors import DependencyDown
from rayonnage_shared.settings import FollowSettings

log = structlog.get_logger()

FOLLOWED = ".followed"

Say = Callable[[str], None]
"""Takes a sentence for people about what has just been done."""


class FollowerAway(DependencyDown):
    """The other side is down or too slow; whatever is pending stays so and is tried again later."""

    code, title = "follower_away", "The other side of a follower cannot be reached"


class Follower(Protocol):
    """Brings one thing outside up to date with the volumes."""

    @property
    def name(self) -> str:
        """Return the name of its markers' folder and of its metrics."""

    def pending(self) -> bool:
        """Return whether there is anything to do: asked every few seconds, without network or heavy imports."""

    def follow(self, say: Say) -> None:
        """Do all that is pending.

        It may be killed at any moment and run again: what was done is not done twice. Every wait is bounded. Only one
        process at a time runs it. Raises FollowerAway.
        """


def followers(settings: FollowSettings) -> list[Follower]:
    """Return all followers that the settings ask for; cheap, nothing is opened."""
    from rayonnage_shared.tracking.follower import MlflowFollower
    from rayonnage_shared.tracking.traffic import TrafficFollower
    from rayonnage_shared.versioning import DvcFollower

    # What a follower needs that is heavy it imports when it follows.
    found: list[Follower] = []
    if settings.mlflow_tracking_uri:
        found += [MlflowFollower(settings), TrafficFollower(settings)]
    if settings.dvc_remote_url:
        found.append(DvcFollower(settings))
    return found


@dataclass(frozen=True, slots=True)
class Markers:
    """Small JSON documents, by name, in which a follower keeps what it has done with each thing on a volume."""

    volume: Path
    follower: str

    @property
    def folder(self) -> Path:
        return self.volume / FOLLOWED / self.follower

    def read(self, name: str) -> dict[str, Any] | None:
        """Return the document, or None where there is none that can be read."""
        try:
            document = json.loads((self.folder / f"{name}.json").read_text(encoding="utf-8"))
        except (FileNotFoundError, ValueError):
            return None
        return document if isinstance(document, dict) else None

    def write(self, name: str, document: dict[str, Any]) -> None:
        """Keep the document in one step that survives a crash."""
        self.folder.mkdir(parents=True, exist_ok=True)
        write_atomically(self.folder / f"{name}.json", json.dumps(document, indent=1).encode())

    def remove(self, name: str) -> None:
        """Forget a thing, if it was known."""
        (self.folder / f"{name}.json").unlink(missing_ok=True)

    def names(self) -> list[str]:
        """Return the names of all documents, in order."""
        return sorted(path.stem for path in self.folder.glob("*.json"))


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


def follow(settings: FollowSettings, say: Say, chosen: Sequence[Follower] | None = None) -> list[Result]:
    """Let every follower (or those chosen) do what is pending; trouble with one neither raises nor stops the next."""
    return [_follow(one, settings, say) for one in (followers(settings) if chosen is None else chosen)]


def last_success(settings: FollowSettings, name: str) -> float | None:
    """Return when a follower last did all that was pending, as seconds since 1970; None before the first time."""
    try:
        return _success_path(settings, name).stat().st_mtime
    except FileNotFoundError:
        return None


def _follow(follower: Follower, settings: FollowSettings, say: Say) -> Result:
    name = follower.name
    try:
        with only_one(settings, name):
            if not follower.pending():
                return Result(name, "nothing to do")
            follower.follow(say)
            _success_path(settings, name).touch()
    except Busy:
        return Result(name, "busy", "Another process is doing this right now.")
    except FollowerAway as error:
        return Result(name, "away", error.detail)
    except Exception as error:  # whatever it was must not keep the other followers from their work
        log.exception("follower.failed", follower=name)
        return Result(name, "failed", f"{type(error).__name__}: {error}")
    return Result(name, "done")


class Busy(Exception):
    """Another process is at work for the same follower."""


@contextlib.contextmanager
def only_one(settings: FollowSettings, name: str) -> Iterator[None]:
    """Keep every other process from working for this follower. Raises Busy."""
    path = settings.models_path / FOLLOWED / f"{name}.lock"
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise Busy from error
        yield


def _success_path(settings: FollowSettings, name: str) -> Path:
    return settings.models_path / FOLLOWED / f"{name}.success"
