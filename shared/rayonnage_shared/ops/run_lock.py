"""The lock that allows one `make run` per folder."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from rayonnage_shared.core.files import FileLocked, is_locked, open_locked


class AlreadyRunning(Exception):
    """Another run holds the lock; `pid` is its process id."""

    def __init__(self, pid: int | None) -> None:
        super().__init__(f"another run is alive (process {pid or 'unknown'})")
        self.pid = pid


@contextmanager
def only_run(folder: Path) -> Iterator[None]:
    """Hold the lock of the run folder until the block or the process ends. Raises AlreadyRunning."""
    try:
        file = open_locked(folder / "lock", wait_s=0)
    except FileLocked:
        raise AlreadyRunning(_pid_in(folder)) from None
    with file:
        file.truncate(0)
        file.write(str(os.getpid()))
        file.flush()
        yield


def holder(folder: Path) -> int | None:
    """Return the process that holds the lock, or None when it is free."""
    return _pid_in(folder) if is_locked(folder / "lock") else None


def _pid_in(folder: Path) -> int | None:
    text = (folder / "lock").read_text(encoding="ascii").strip()
    return int(text) if text.isdecimal() else None
