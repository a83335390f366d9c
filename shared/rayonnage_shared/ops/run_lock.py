"""The lock that allows one `make run` per folder."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


class AlreadyRunning(Exception):
    """Another run holds the lock; `pid` is its process id."""

    def __init__(self, pid: int | None) -> None:
        super().__init__(f"another run is alive (process {pid or 'unknown'})")
        self.pid = pid


@contextmanager
def only_run(folder: Path) -> Iterator[None]:
    """Hold the lock of the run folder; the kernel releases it when this process ends. Raises AlreadyRunning."""
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "lock").open("a+", encoding="ascii") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise AlreadyRunning(_pid_in(folder)) from None
        file.truncate(0)
        file.write(str(os.getpid()))
        file.flush()
        yield


def holder(folder: Path) -> int | None:
    """Return the id of the process that holds the lock, or None."""
    try:
        with (folder / "lock").open(encoding="ascii") as file:
            fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except FileNotFoundError:
        return None
    except BlockingIOError:
        return _pid_in(folder)
    return None


def _pid_in(folder: Path) -> int | None:
    text = (folder / "lock").read_text(encoding="ascii").strip()
    return int(text) if text.isdecimal() else None
