"""Atomic file writes and locks. Standard library only, since the torch environment imports this module."""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import time
from pathlib import Path
from typing import TextIO

from rayonnage_shared.core.errors import Conflict

FOLDER_MODE = 0o700
FILE_MODE = 0o444
REMOVED = ".removed-"
"""Prefix of a folder that is being removed."""
_LOCK_RETRY_S = 0.05


def write_atomically(path: Path, content: bytes | memoryview, *, mode: int = 0o666) -> None:
    """Write `content` to `path` atomically; survives a crash and a power cut.

    `mode` applies from the first byte, minus the process's umask.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    temporary.unlink(missing_ok=True)
    with os.fdopen(os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode), "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)
    sync_to_disk(path.parent)


def sync_to_disk(path: Path) -> None:
    """Return once a file's content, or the names in a folder, would survive a power cut."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sha256_of(path: Path) -> str:
    """Return the SHA-256 of a file's content in hexadecimal; memory does not grow with the file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def remove_folder(folder: Path) -> None:
    """Remove a folder; a reader sees the whole folder or none. Raises OSError."""
    doomed = folder.rename(folder.with_name(f"{REMOVED}{folder.name}"))
    shutil.rmtree(doomed)


class FileLocked(Exception):
    """Another process holds the lock on this file."""


def open_locked(path: Path, *, wait_s: float | None = None) -> TextIO:
    """Open `path` for appending and return it with an exclusive lock on it, which ends when the file is closed.

    The kernel also frees the lock when the process dies, so that a killed process leaves nothing to clean up.
    Wait at most `wait_s` seconds for the lock, or without a limit. Raises FileLocked.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    deadline = None if wait_s is None else time.monotonic() + wait_s
    file = path.open("a+", encoding="utf-8")
    try:
        while not _try_lock(file, fcntl.LOCK_EX, wait=deadline is None):
            if deadline is not None and time.monotonic() >= deadline:
                raise FileLocked(str(path))
            time.sleep(_LOCK_RETRY_S)
    except BaseException:
        file.close()
        raise
    return file


def is_locked(path: Path) -> bool:
    """Return whether a process holds the lock that `open_locked` takes."""
    try:
        with path.open(encoding="utf-8") as file:
            return not _try_lock(file, fcntl.LOCK_SH, wait=False)
    except FileNotFoundError:
        return False


def _try_lock(file: TextIO, kind: int, *, wait: bool) -> bool:
    try:
        fcntl.flock(file, kind if wait else kind | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


class InTheWay(Conflict):
    """A folder stands where a file belongs. Docker creates one for each mounted file that is missing."""

    code, title = "folder_in_the_way", "A folder is in the way of a file"


def write_mounted(folder: Path, name: str, content: str) -> bool:
    """Write `content` to `folder/name`, readable by other users; return whether it changed. Raises InTheWay."""
    folder.mkdir(mode=FOLDER_MODE, exist_ok=True)
    folder.chmod(FOLDER_MODE)
    path = folder / name
    if path.is_dir():
        raise InTheWay(
            f"{path} is a folder. Docker creates one when a mounted file is missing; remove it and try again."
        )
    changed = not path.exists() or path.read_bytes() != content.encode()
    if changed:
        write_atomically(path, content.encode(), mode=FILE_MODE)
    path.chmod(FILE_MODE)  # the umask may have removed bits
    return changed
