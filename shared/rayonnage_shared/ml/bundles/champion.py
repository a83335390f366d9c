"""The champion pointer: which bundle serves. A small file beside the bundles, moved by an atomic rename."""

from __future__ import annotations

import contextlib
import fcntl
import json
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from ulid import ULID

from rayonnage_shared.core.files import write_atomically

POINTER_NAME = "champion.json"
MAX_HISTORY = 20


@dataclass(frozen=True, slots=True)
class Champion:
    """The pointer's content; `history` holds the versions to roll back to, newest last."""

    version: str
    moved_by: str
    reason: str
    history: tuple[str, ...] = ()
    previous: str | None = None
    move_id: str = field(default_factory=lambda: str(ULID()))
    moved_at: str = field(default_factory=lambda: datetime.now(UTC).isoformat(timespec="milliseconds"))


def read_champion(models_path: Path) -> Champion | None:
    """Return what the pointer says, or None before the first promotion."""
    try:
        document = json.loads((models_path / POINTER_NAME).read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    return Champion(**{**document, "history": tuple(document["history"])})


def write_champion(models_path: Path, champion: Champion) -> None:
    """Move the pointer; a reader sees the old content or the new, never a mixture, also after a power cut."""
    write_atomically(models_path / POINTER_NAME, json.dumps(asdict(champion), indent=1).encode())


@contextlib.contextmanager
def champion_lock(models_path: Path) -> Iterator[None]:
    """Hold the lock under which the pointer is read and moved, so that two moves never interleave."""
    models_path.mkdir(parents=True, exist_ok=True)
    with (models_path / ".champion.lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield
