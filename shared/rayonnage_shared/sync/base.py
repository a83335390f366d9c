"""What a sync target is."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from rayonnage_shared.core.errors import DependencyDown
from rayonnage_shared.core.files import write_atomically

MARKERS_FOLDER = ".synced"


Say = Callable[[str], None]
"""Takes a sentence for people about what has just been done."""


class SyncTargetUnavailable(DependencyDown):
    """The other side is down or too slow; whatever is pending stays so and is tried again later."""

    code, title = "follower_away", "The other side of a follower cannot be reached"


class SyncTarget(Protocol):
    """Brings one thing outside up to date with the volumes."""

    @property
    def name(self) -> str:
        """Return the name of its markers' folder and of its metrics."""

    def pending(self) -> bool:
        """Return whether there is anything to do: asked every few seconds, without network or heavy imports."""

    def follow(self, say: Say) -> None:
        """Do all that is pending.

        It may be killed at any moment and run again: what was done is not done twice. Every wait is bounded. Only one
        process at a time runs it. Raises SyncTargetUnavailable.
        """


@dataclass(frozen=True, slots=True)
class Markers:
    """Small JSON documents, by name, in which a follower keeps what it has done with each thing on a volume."""

    volume: Path
    follower: str

    @property
    def folder(self) -> Path:
        return self.volume / MARKERS_FOLDER / self.follower

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
