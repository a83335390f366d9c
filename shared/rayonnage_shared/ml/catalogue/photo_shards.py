"""Pack photos into a few tar files, for storage where many small files are slow.

A shard `<data>/shards/<sha256>.tar` contains photos in the order of their names and nothing machine-specific, so the
same photos give the same bytes. An index beside the products maps shards to photos:

    <data>/datasets/<version>/photo_shards.json   {"<sha256 of the shard>": ["<sha256 of a photo>", …], …}

It lists every shard of the version with all photos, so a later version packs only new ones.
"""

from __future__ import annotations

import hashlib
import json
import os
import tarfile
from collections.abc import Collection, Iterable, Iterator, Sequence
from pathlib import Path

from pydantic import TypeAdapter

from rayonnage_shared.core.errors import RayonnageError
from rayonnage_shared.core.files import sha256_of, write_atomically
from rayonnage_shared.ml.catalogue.datasets import DatasetStore

INDEX_NAME = "photo_shards.json"
SHARDS_FOLDER = "shards"
MAX_SHARD_BYTES = 64_000_000
"""Large enough that 85,000 photos of 45 kB are 60 files, small enough that a broken transfer costs seconds."""

ShardIndex = dict[str, list[str]]
"""sha256 names of photos by the sha256 name of their shard."""
_INDEX = TypeAdapter(ShardIndex)


class ShardBroken(RayonnageError):
    code, title = "photo_shard_broken", "Packed photos are damaged"


def photos_of(products: Path) -> list[str]:
    """Return the distinct sha256 names of all photos in `products.parquet`, sorted."""
    from pyarrow import compute, parquet

    column = parquet.read_table(products, columns=["photo"])["photo"]
    return sorted(compute.unique(column.drop_null()).to_pylist())


def group(photos: Iterable[tuple[str, int]], max_bytes: int = MAX_SHARD_BYTES) -> Iterator[list[str]]:
    """Yield the photos (sorted names with sizes) in batches of at most `max_bytes`.

    A larger photo is a batch of its own. Leading batches that are already packed can be omitted without changing the
    others, so an interrupted packing continues with the same shards.
    """
    lot: list[str] = []
    size = 0
    for name, length in photos:
        if lot and size + length > max_bytes:
            yield lot
            lot, size = [], 0
        lot.append(name)
        size += length
    if lot:
        yield lot


def pack(store: DatasetStore, photos: Sequence[str], folder: Path) -> Path:
    """Write the photos to a shard in `folder` and return it, named by the sha256 of its bytes."""
    folder.mkdir(parents=True, exist_ok=True)
    temporary = folder / f".packing-{os.getpid()}"
    with tarfile.open(temporary, "w", format=tarfile.USTAR_FORMAT) as tar:
        for name in sorted(photos):
            with store.photo_path(name).open("rb") as photo:
                member = tarfile.TarInfo(_member_name(name))
                member.size = os.fstat(photo.fileno()).st_size
                tar.addfile(member, photo)
    return temporary.replace(folder / f"{sha256_of(temporary)}.tar")


def unpack(shard: Path, store: DatasetStore, wanted: Collection[str]) -> int:
    """Add the wanted photos of a shard to the store, checked against their hashes, and return how many.

    Other members of the archive are ignored. Raises ShardBroken.
    """
    names = {_member_name(name): name for name in wanted}
    unpacked = 0
    try:
        with tarfile.open(shard, "r:") as tar:
            for member in tar:
                name = names.get(member.name)
                source = tar.extractfile(member) if name is not None and member.isreg() else None
                if name is None or source is None:
                    continue
                _store_photo(store, name, source.read())
                unpacked += 1
    except tarfile.TarError as error:
        raise ShardBroken(f"{shard.name} cannot be read: {error}") from error
    return unpacked


def read_index(folder: Path) -> ShardIndex:
    """Return the index in a dataset version's folder, empty where there is none. Raises ShardBroken."""
    try:
        return _INDEX.validate_json((folder / INDEX_NAME).read_bytes())
    except (FileNotFoundError, NotADirectoryError):
        return {}
    except (OSError, ValueError) as error:  # a ValidationError is a ValueError
        raise ShardBroken(f"{INDEX_NAME} of dataset {folder.name} is damaged; `rayonnage pull` restores it.") from error


def write_index(folder: Path, index: ShardIndex) -> None:
    """Write the index to a dataset version's folder if it is missing. The same index gives the same bytes."""
    content = json.dumps(index, sort_keys=True, separators=(",", ":")).encode()
    path = folder / INDEX_NAME
    if not path.is_file() or path.read_bytes() != content:
        write_atomically(path, content)


def _member_name(name: str) -> str:
    return f"{name}.jpg"


def _store_photo(store: DatasetStore, name: str, content: bytes) -> None:
    if hashlib.sha256(content).hexdigest() != name:
        raise ShardBroken(f"Photo {name} does not match its hash.")
    path = store.photo_path(name)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{name}.{os.getpid()}")
    temporary.write_bytes(content)
    temporary.replace(path)
