"""The interface of a sync target, and its marker files."""

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
"""Receives one line of progress for people."""


class SyncTargetUnavailable(DependencyDown):
    """The remote system is down or too slow; pending work stays pending and is retried later."""

    code, title = "sync_target_unavailable", "A sync target cannot be reached"


class SyncTarget(Protocol):
    """Brings one external system up to date with the volumes."""

    @property
    def name(self) -> str:
        """Return the name used for its marker folder and its metrics."""

    def pending(self) -> bool:
        """Return whether there is work to do. Called every few seconds: no network, no heavy imports."""

    def sync(self, say: Say) -> None:
        """Do all pending work.

        Idempotent: it may be killed at any moment and run again. Every wait is bounded. One process at a time runs it.
        Raises SyncTargetUnavailable.
        """


@dataclass(frozen=True, slots=True)
class Markers:
    """Small JSON files, by name, in which a sync target records what it has synced from a volume."""

    volume: Path
    target: str

    @property
    def folder(self) -> Path:
        return self.volume / MARKERS_FOLDER / self.target

    def read(self, name: str) -> dict[str, Any] | None:
        """Return the document, or None if it is missing or unreadable."""
        try:
            document = json.loads((self.folder / f"{name}.json").read_text(encoding="utf-8"))
        except (OSError, ValueError):
            return None
        return document if isinstance(document, dict) else None

    def write(self, name: str, document: dict[str, Any]) -> None:
        """Write the document atomically."""
        self.folder.mkdir(parents=True, exist_ok=True)
        write_atomically(self.folder / f"{name}.json", json.dumps(document, indent=1).encode())

    def remove(self, name: str) -> None:
        """Remove the document if it exists."""
        (self.folder / f"{name}.json").unlink(missing_ok=True)

    def names(self) -> list[str]:
        """Return the names of all documents, sorted."""
        return sorted(path.stem for path in self.folder.glob("*.json"))
