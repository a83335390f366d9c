"""Atomic file writes and locks. Standard library only, since the torch environment imports this module."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from rayonnage_shared.core.errors import Conflict

FOLDER_MODE = 0o700
FILE_MODE = 0o444
REMOVED = ".removed-"
"""Prefix of a folder that is being removed."""


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
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def remove_folder(folder: Path) -> None:
    """Remove a folder; a reader sees the whole folder or none. Raises OSError."""
    doomed = folder.rename(folder.with_name(f"{REMOVED}{folder.name}"))
    shutil.rmtree(doomed)


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
