"""Photos in tar files: the same bytes everywhere, bounded, and nothing unpacked that was not asked for."""

from __future__ import annotations

import hashlib
import io
import os
import tarfile
from pathlib import Path

import pytest

from rayonnage_shared.ml.catalogue.datasets import DatasetStore
from rayonnage_shared.ml.catalogue.photo_shards import ShardBroken, group, pack, read_index, unpack, write_index


def stored(store: DatasetStore, *contents: bytes) -> list[str]:
    """Put these photos into the store and return their names, in the order of the contents."""
    names = [hashlib.sha256(content).hexdigest() for content in contents]
    for name, content in zip(names, contents, strict=True):
        path = store.photo_path(name)
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    return names


def foreign_shard(path: Path, members: dict[str, bytes]) -> Path:
    with tarfile.open(path, "w") as tar:
        for name, content in members.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            tar.addfile(member, io.BytesIO(content))
    return path


def test_the_same_photos_give_the_same_bytes_on_every_machine(tmp_path: Path) -> None:
    here, there = DatasetStore(tmp_path / "here"), DatasetStore(tmp_path / "there")
    names = stored(here, b"one", b"two", b"three")
    stored(there, b"three", b"two", b"one")
    for name in names:
        os.utime(there.photo_path(name), (1, 1))
        there.photo_path(name).chmod(0o600)

    first, second = pack(here, names, tmp_path / "a"), pack(there, names[::-1], tmp_path / "b")

    assert first.name == second.name
    assert first.read_bytes() == second.read_bytes()
    assert first.stem == hashlib.sha256(first.read_bytes()).hexdigest()


def test_no_lot_is_larger_than_asked_for_but_a_single_large_photo() -> None:
    photos = [(name, 40) for name in "abcdefg"] + [("huge", 500), ("small", 1)]

    lots = list(group(photos, max_bytes=100))

    assert lots == [["a", "b"], ["c", "d"], ["e", "f"], ["g"], ["huge"], ["small"]]


def test_lots_that_were_packed_before_do_not_change_those_that_follow() -> None:
    photos = [(f"{i:03}", 10 + i % 7) for i in range(100)]
    all_lots = list(group(photos, max_bytes=64))

    done = {name for lot in all_lots[:4] for name in lot}

    assert list(group([one for one in photos if one[0] not in done], max_bytes=64)) == all_lots[4:]


def test_what_was_packed_comes_back_but_only_what_is_wanted(tmp_path: Path) -> None:
    here, there = DatasetStore(tmp_path / "here"), DatasetStore(tmp_path / "there")
    one, two, three = stored(here, b"one", b"two", b"three")
    shard = pack(here, [one, two, three], tmp_path)

    assert unpack(shard, there, {one, three}) == 2

    assert there.photo_path(one).read_bytes() == b"one"
    assert there.photo_path(three).read_bytes() == b"three"
    assert not there.photo_path(two).exists()


def test_a_photo_that_is_not_what_its_name_says_is_refused(tmp_path: Path) -> None:
    store = DatasetStore(tmp_path / "data")
    name = hashlib.sha256(b"right").hexdigest()
    shard = foreign_shard(tmp_path / "x.tar", {f"{name}.jpg": b"wrong"})

    with pytest.raises(ShardBroken, match=name):
        unpack(shard, store, {name})

    assert not store.photo_path(name).exists()


def test_an_archive_cannot_write_anywhere_else(tmp_path: Path) -> None:
    store = DatasetStore(tmp_path / "data")
    name = hashlib.sha256(b"right").hexdigest()
    shard = foreign_shard(tmp_path / "x.tar", {"../../evil.jpg": b"evil", f"../{name}.jpg": b"right"})

    assert unpack(shard, store, {name}) == 0
    assert [path.name for path in tmp_path.rglob("*.jpg")] == []


def test_a_file_that_is_no_archive_is_refused(tmp_path: Path) -> None:
    (tmp_path / "x.tar").write_bytes(b"not a tar file" * 100)

    with pytest.raises(ShardBroken, match=r"x\.tar"):
        unpack(tmp_path / "x.tar", DatasetStore(tmp_path), {"0" * 64})


def test_an_index_that_stands_already_is_left_alone(tmp_path: Path) -> None:
    index = {"b" * 64: ["2", "3"], "a" * 64: ["1"]}
    write_index(tmp_path, index)
    before = (tmp_path / "photo_shards.json").stat()

    write_index(tmp_path, dict(reversed(index.items())))

    after = (tmp_path / "photo_shards.json").stat()
    assert (after.st_ino, after.st_mtime_ns) == (before.st_ino, before.st_mtime_ns)
    assert read_index(tmp_path) == index


def test_a_version_without_an_index_has_an_empty_one(tmp_path: Path) -> None:
    assert read_index(tmp_path) == {}
