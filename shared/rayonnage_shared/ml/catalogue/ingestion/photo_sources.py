"""Sources of photos: an untrusted zip, or a folder."""

from __future__ import annotations

import os
import stat
import zipfile
import zlib
from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath

from rayonnage_shared.core.errors import BadInput

MAX_ENTRIES = 300_000
MAX_UNPACKED_BYTES = 64 * 1024**3
MAX_RATIO = 100
"""JPEG hardly compresses; a zip bomb reaches 1,000."""

_RATIO_COUNTS_FROM_BYTES = 1 << 20
_PHOTO_SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".webp"})
_ENCRYPTED = 0x1


class UnsafeArchive(BadInput):
    code, title = "unsafe_archive", "The zip of photos is refused"


class PhotoTooBig(Exception):
    """A photo is larger than allowed."""


class PhotoSource(ABC):
    """Photos by file name, in any folder; of two with the same name the first is used."""

    def __init__(self) -> None:
        self._by_name: dict[str, str] = {}
        self._by_stem: dict[str, str] = {}

    def _add(self, path: str) -> None:
        name = PurePosixPath(path)
        if name.suffix.lower() in _PHOTO_SUFFIXES and not name.name.startswith("."):
            self._by_name.setdefault(name.name, path)
            self._by_stem.setdefault(name.stem, path)

    def find(self, product_id: str, image_id: str, name: str) -> str | None:
        """Return the member that shows this product: by its ids, else by the file name in its row."""
        if product_id and image_id:
            by_ids = self._by_stem.get(f"image_{image_id}_product_{product_id}")
            if by_ids is not None:
                return by_ids
        return self._by_name.get(name.replace("\\", "/").rsplit("/", 1)[-1]) if name else None

    @abstractmethod
    def read(self, member: str, max_bytes: int) -> bytes:
        """Return a member's content, reading no more than `max_bytes`. Raises PhotoTooBig, OSError or BadZipFile."""


class NoPhotos(PhotoSource):
    """An ingest without photos."""

    def read(self, member: str, max_bytes: int) -> bytes:
        raise FileNotFoundError(member)


class PhotoFolder(PhotoSource):
    """A folder and those below it; links are not followed."""

    def __init__(self, folder: Path) -> None:
        super().__init__()
        for parent, _, names in os.walk(folder):
            for name in sorted(names):
                path = Path(parent, name)
                if not path.is_symlink():
                    self._add(str(path))

    def read(self, member: str, max_bytes: int) -> bytes:
        with Path(member).open("rb") as file:
            return _bounded(file.read(max_bytes + 1), max_bytes)


class PhotoArchive(PhotoSource):
    """A zip whose headers are all checked before anything is unpacked."""

    def __init__(self, archive: zipfile.ZipFile) -> None:
        super().__init__()
        self._archive = archive
        entries = archive.infolist()
        if len(entries) > MAX_ENTRIES:
            raise UnsafeArchive(f"It has {len(entries):,} entries; {MAX_ENTRIES:,} is the limit.")
        if sum(entry.file_size for entry in entries) > MAX_UNPACKED_BYTES:
            raise UnsafeArchive(f"It unpacks to more than {MAX_UNPACKED_BYTES // 1024**3} GiB.")
        for entry in entries:
            _refuse_unsafe(entry)
            if not entry.is_dir() and not entry.filename.startswith("__MACOSX/"):
                self._add(entry.filename)

    def read(self, member: str, max_bytes: int) -> bytes:
        # The header may lie about the size, so reading stops at the limit.
        with self._archive.open(member) as file:
            return _bounded(file.read(max_bytes + 1), max_bytes)


@contextmanager
def open_photos(path: Path | None) -> Iterator[PhotoSource]:
    """Yield the photos of a zip or a folder; none for None. Raises UnsafeArchive."""
    if path is None:
        yield NoPhotos()
    elif path.is_dir():
        yield PhotoFolder(path)
    else:
        try:
            archive = zipfile.ZipFile(path)
        except (zipfile.BadZipFile, OSError, ValueError, NotImplementedError) as error:
            raise UnsafeArchive(f"It is not a readable zip: {error}.") from error
        with archive:
            yield PhotoArchive(archive)


READ_ERRORS = (OSError, zipfile.BadZipFile, zlib.error, EOFError, ValueError, NotImplementedError, RuntimeError)
"""The errors of reading a damaged member; zipfile has no common base class."""


def _refuse_unsafe(entry: zipfile.ZipInfo) -> None:
    name = entry.filename
    shown = name[:80]
    path = PurePosixPath(name.replace("\\", "/"))
    if path.is_absolute() or ".." in path.parts or (path.parts and ":" in path.parts[0]) or "\0" in entry.orig_filename:
        raise UnsafeArchive(f"The entry {shown!r} points outside the archive.")
    if stat.S_ISLNK(entry.external_attr >> 16):
        raise UnsafeArchive(f"The entry {shown!r} is a link.")
    if entry.flag_bits & _ENCRYPTED:
        raise UnsafeArchive(f"The entry {shown!r} is encrypted; send the photos without a password.")
    if entry.file_size > _RATIO_COUNTS_FROM_BYTES and entry.file_size > MAX_RATIO * max(entry.compress_size, 1):
        raise UnsafeArchive(f"The entry {shown!r} unpacks to more than {MAX_RATIO} times its size.")


def _bounded(data: bytes, max_bytes: int) -> bytes:
    if len(data) > max_bytes:
        raise PhotoTooBig
    return data
