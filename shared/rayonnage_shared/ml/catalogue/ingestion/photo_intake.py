"""Add photos to the content-addressed store: checked with the decoder of training, hashed, written once."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

from rayonnage_shared.core.errors import RayonnageError
from rayonnage_shared.ml.base.progress import Progress
from rayonnage_shared.ml.catalogue.datasets import DatasetStore
from rayonnage_shared.ml.catalogue.ingestion.photo_sources import READ_ERRORS, PhotoSource, PhotoTooBig
from rayonnage_shared.ml.features.photos import PhotoLimits, perceptual_hash

_BATCH = 64  # photos in memory at a time: at most 64 × 5 MB


@dataclass(frozen=True, slots=True)
class StoredPhoto:
    """A photo in the store; `perceptual_hash` is None for a blank photo."""

    sha256: str
    perceptual_hash: int | None
    is_new: bool


class PhotoIntake:
    """Adds members of one source to the store; temporary files lie in a folder that the next ingest clears."""

    def __init__(self, store: DatasetStore, known: Mapping[str, int | None], limits: PhotoLimits) -> None:
        self._store = store
        self._known = known
        self._limits = limits
        self._incoming = store.photos_folder / ".incoming"

    def take(self, source: PhotoSource, members: Sequence[str], progress: Progress) -> dict[str, StoredPhoto | str]:
        """Return for each member its photo, or the reason for refusal."""
        taken: dict[str, StoredPhoto | str] = {}
        if not members:
            return taken
        self._incoming.mkdir(parents=True, exist_ok=True)
        with ThreadPoolExecutor(max_workers=os.cpu_count()) as threads:
            for start in range(0, len(members), _BATCH):
                batch = members[start : start + _BATCH]
                contents = [self._read(source, member) for member in batch]
                taken.update(zip(batch, threads.map(self._store_one, contents), strict=True))
                progress(start / len(members), f"{start} of {len(members)} photos")
        return taken

    def _read(self, source: PhotoSource, member: str) -> bytes | str:
        try:
            return source.read(member, self._limits.max_bytes)
        except PhotoTooBig:
            return f"is larger than {self._limits.max_bytes / 1e6:g} MB"
        except READ_ERRORS as error:
            return f"cannot be read: {error}"

    def _store_one(self, content: bytes | str) -> StoredPhoto | str:
        if isinstance(content, str):
            return content
        sha256 = hashlib.sha256(content).hexdigest()
        path = self._store.photo_path(sha256)
        if sha256 in self._known and path.is_file():
            return StoredPhoto(sha256, self._known[sha256], is_new=False)
        try:
            seen = perceptual_hash(content)  # decodes the whole file, to detect broken ones
        except RayonnageError as error:
            return error.detail
        temporary = self._incoming / f"{sha256}-{os.getpid()}-{id(content)}"
        temporary.write_bytes(content)
        path.parent.mkdir(exist_ok=True)
        temporary.replace(path)
        return StoredPhoto(sha256, seen, is_new=sha256 not in self._known)
