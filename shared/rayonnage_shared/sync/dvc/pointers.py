"""DVC pointer files, committed to git in place of a bundle, a dataset version or a photo shard."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from pathlib import Path

from rayonnage_shared.core.errors import RayonnageError
from rayonnage_shared.core.files import write_atomically


class PointerBroken(RayonnageError):
    code, title = "pointer_broken", "A pointer file is damaged"


@dataclass(frozen=True, slots=True)
class Pointer:
    """The content of a `.dvc` file; the `md5` of a folder ends with `.dir`."""

    md5: str
    size: int
    files: int | None = None

    def write(self, path: Path) -> None:
        """Write the pointer as `<path>.dvc`, in DVC's own format."""
        files = "" if self.files is None else f"  nfiles: {self.files}\n"
        text = f"outs:\n- md5: {self.md5}\n  size: {self.size}\n{files}  hash: md5\n  path: {path.name}\n"
        target = pointer_path(path)
        if not target.is_file() or target.read_text(encoding="utf-8") != text:
            write_atomically(target, text.encode())

    def matches(self, path: Path) -> bool:
        """Return whether `path` is a file with the pointer's content."""
        if not path.is_file() or path.stat().st_size != self.size:
            return False
        with path.open("rb") as file:
            return hashlib.file_digest(file, lambda: hashlib.md5(usedforsecurity=False)).hexdigest() == self.md5


def pointer_path(path: Path) -> Path:
    """Return the path of the pointer to a file or folder."""
    return path.with_name(f"{path.name}.dvc")


def read_pointer(path: Path) -> Pointer:
    """Return the pointer in the file at `path`. Raises PointerBroken."""
    from dvc.exceptions import DvcException
    from dvc.utils.serialize import load_yaml

    try:
        (out,) = load_yaml(str(path))["outs"]
        return Pointer(str(out["md5"]), int(out.get("size", 0)), out.get("nfiles"))
    except (DvcException, OSError, KeyError, TypeError, ValueError) as error:
        raise PointerBroken(f"{path} is not a DVC pointer; restore it from git.") from error
