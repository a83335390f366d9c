"""Files that containers mount one by one: their users, who are others, may read them, and nobody else gets there."""

from __future__ import annotations

from pathlib import Path

from rayonnage_shared.atomic_files import write_atomically
from rayonnage_shared.errors import Conflict

FOLDER_MODE = 0o700
FILE_MODE = 0o444


class InTheWay(Conflict):
    """Docker makes a folder of each file that it is to mount and does not find."""

    code, title = "folder_in_the_way", "There is a folder where a file belongs"


def write_mounted(folder: Path, name: str, content: str) -> bool:
    """Let `folder/name` hold `content`; return whether it held something else before. Raises InTheWay."""
    folder.mkdir(mode=FOLDER_MODE, exist_ok=True)
    folder.chmod(FOLDER_MODE)
    path = folder / name
    if path.is_dir():
        raise InTheWay(f"{path} is a folder, which Docker makes where a file is missing; remove it and try again.")
    changed = not path.exists() or path.read_bytes() != content.encode()
    if changed:
        write_atomically(path, content.encode(), mode=FILE_MODE)
    path.chmod(FILE_MODE)  # a umask may have taken from it
    return changed
