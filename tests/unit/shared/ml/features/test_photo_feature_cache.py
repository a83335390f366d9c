"""Features of photos are computed once, whoever asks; whatever happens to the cache costs time and nothing else."""

from __future__ import annotations

import itertools
import multiprocessing
import os
import signal
import sqlite3
from collections.abc import Iterable
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest

from rayonnage_shared.ml.base.model import FloatArray
from rayonnage_shared.ml.features import photo_feature_cache
from rayonnage_shared.ml.features.photo_feature_cache import UNUSED_DAYS, PhotoFeatureCache
from tests.waiting import eventually

WIDTH = 1504


def features(*numbers: int) -> dict[str, FloatArray]:
    """Return features of photos `photo-0`, …; those of a number are always the same."""
    return {f"photo-{one}": np.random.default_rng(one).normal(size=WIDTH).astype(np.float32) for one in numbers}


@pytest.fixture
def cache(tmp_path: Path) -> PhotoFeatureCache:
    return PhotoFeatureCache(tmp_path / "cache" / "features.sqlite")


def check_found(cache: PhotoFeatureCache, network: str, *numbers: int) -> None:
    wanted = features(*numbers)
    found = cache.find(network, list(wanted))
    assert found.keys() == wanted.keys()
    for photo, row in wanted.items():
        np.testing.assert_array_equal(found[photo], row)


def test_features_come_back_bit_for_bit_for_their_own_network_only(cache: PhotoFeatureCache) -> None:
    assert cache.find("lite0", ["photo-1"]) == {}

    cache.save("lite0", features(1, 2))

    check_found(cache, "lite0", 1, 2)
    assert cache.find("lite0", ["photo-1", "photo-3"]).keys() == {"photo-1"}
    assert cache.find("lite1", ["photo-1"]) == {}


def test_the_cache_stays_within_its_bound_and_keeps_what_was_used_last(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache = PhotoFeatureCache(tmp_path / "features.sqlite", max_bytes=1_000_000)
    for start in range(0, 1000, 50):
        monkeypatch.setattr(photo_feature_cache, "_today", lambda start=start: start)
        cache.save("lite0", features(*range(start, start + 50)))
        check_found(cache, "lite0", *range(10))  # used each day

    assert cache.path.stat().st_size < 1_500_000
    check_found(cache, "lite0", *range(950, 1000))
    assert cache.find("lite0", list(features(*range(20, 40)))) == {}


def test_pruning_removes_what_was_not_used_for_long(cache: PhotoFeatureCache, monkeypatch: pytest.MonkeyPatch) -> None:
    assert cache.prune() == 0
    cache.save("lite0", features(*range(100)))
    size, today = cache.path.stat().st_size, photo_feature_cache._today()
    monkeypatch.setattr(photo_feature_cache, "_today", lambda: today + UNUSED_DAYS)
    check_found(cache, "lite0", 1)

    assert cache.prune() == 0
    monkeypatch.setattr(photo_feature_cache, "_today", lambda: today + UNUSED_DAYS + 1)

    assert cache.prune() == 99
    check_found(cache, "lite0", 1)
    assert cache.path.stat().st_size < size / 5


@pytest.mark.parametrize("content", [b"no database", b"SQLite format 3\0" + bytes(5000)])
def test_a_broken_file_is_replaced(cache: PhotoFeatureCache, content: bytes) -> None:
    cache.path.parent.mkdir()
    cache.path.write_bytes(content)

    assert cache.find("lite0", ["photo-1"]) == {}
    cache.save("lite0", features(1))

    check_found(cache, "lite0", 1)


def test_a_damaged_row_is_not_used(cache: PhotoFeatureCache) -> None:
    cache.save("lite0", features(1, 2))
    with closing(sqlite3.connect(cache.path)) as database, database:
        database.execute("UPDATE features SET content = zeroblob(6016) WHERE photo = 'photo-1'")

    assert cache.find("lite0", ["photo-1", "photo-2"]).keys() == {"photo-2"}


def test_a_locked_or_unwritable_cache_is_done_without(
    tmp_path: Path, cache: PhotoFeatureCache, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(photo_feature_cache, "_WAIT_S", 0.01)
    cache.save("lite0", features(1))
    with closing(sqlite3.connect(cache.path, isolation_level=None)) as other:
        other.execute("BEGIN EXCLUSIVE")
        assert cache.find("lite0", ["photo-1"]) == {}
        cache.save("lite0", features(2))
    check_found(cache, "lite0", 1)

    (tmp_path / "file").touch()
    PhotoFeatureCache(tmp_path / "file" / "features.sqlite").save("lite0", features(1))


def _save(path: Path, numbers: Iterable[int]) -> None:
    for number in numbers:
        PhotoFeatureCache(path).save("lite0", features(number))


def _save_until_killed(path: Path) -> None:
    _save(path, itertools.count(200))


def test_two_processes_write_at_once_and_one_that_is_killed_leaves_it_whole(cache: PhotoFeatureCache) -> None:
    spawning = multiprocessing.get_context("spawn")
    both = [spawning.Process(target=_save, args=(cache.path, range(start, start + 100))) for start in (0, 100)]
    killed = spawning.Process(target=_save_until_killed, args=(cache.path,), daemon=True)
    for one in (*both, killed):
        one.start()
    assert eventually(lambda: cache.find("lite0", ["photo-205"]))
    assert killed.pid is not None
    os.kill(killed.pid, signal.SIGKILL)
    for one in (*both, killed):
        one.join()

    assert [one.exitcode for one in both] == [0, 0]
    with closing(sqlite3.connect(cache.path)) as database:
        assert database.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    wanted = features(*range(206))
    found = cache.find("lite0", list(wanted))
    assert found.keys() & {f"photo-{one}" for one in range(100)}
    assert found.keys() & {f"photo-{one}" for one in range(100, 200)}
    for photo, row in found.items():
        np.testing.assert_array_equal(row, wanted[photo])
    cache.save("lite0", features(999))
    check_found(cache, "lite0", 205, 999)
