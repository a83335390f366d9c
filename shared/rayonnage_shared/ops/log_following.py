"""Follow the log files of a folder, including rotated and new files."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

POLL_S = 0.3


@dataclass
class _Followed:
    file: BinaryIO
    inode: int
    rest: bytes = b""


@dataclass
class LogFollower:
    """Passes each new complete line of `folder/*.log` to `show`, with the file's name without `.log`."""

    folder: Path
    show: Callable[[str, str], None]
    _followed: dict[Path, _Followed] = field(default_factory=dict)

    def start(self, last_lines: int) -> None:
        """Show the last lines of each file, and remember its end."""
        for path in self._paths():
            followed = self._open(path)
            lines = followed.file.read().split(b"\n")
            followed.rest = lines.pop()
            for line in lines[-last_lines:] if last_lines else []:
                self._show(path, line)

    def poll(self) -> None:
        """Show what was written since the last poll."""
        for path in self._paths():
            followed = self._followed.get(path)
            if followed is None:
                followed = self._open(path)
            self._drain(path, followed)
            if _rotated(path, followed):
                followed.file.close()
                self._drain(path, self._open(path))

    def follow(self) -> None:
        """Poll forever."""
        while True:
            self.poll()
            time.sleep(POLL_S)

    def close(self) -> None:
        """Close the files."""
        for followed in self._followed.values():
            followed.file.close()
        self._followed.clear()

    def _paths(self) -> list[Path]:
        return sorted(self.folder.glob("*.log"))

    def _open(self, path: Path) -> _Followed:
        file = path.open("rb")
        followed = self._followed[path] = _Followed(file, path.stat().st_ino)
        return followed

    def _drain(self, path: Path, followed: _Followed) -> None:
        lines = (followed.rest + followed.file.read()).split(b"\n")
        followed.rest = lines.pop()
        for line in lines:
            self._show(path, line)

    def _show(self, path: Path, line: bytes) -> None:
        self.show(path.name.removesuffix(".log"), line.decode(errors="replace"))


def _rotated(path: Path, followed: _Followed) -> bool:
    try:
        present = path.stat()
    except FileNotFoundError:
        return False  # being rotated; the next poll finds the new file
    return present.st_ino != followed.inode or present.st_size < followed.file.tell()
