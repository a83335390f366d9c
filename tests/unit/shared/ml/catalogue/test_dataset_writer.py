"""One writer, and crashes at any moment."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import pytest

from rayonnage_shared.ml.base.categories import Categories
from rayonnage_shared.ml.catalogue.dataset_writer import IngestBusy, writing
from rayonnage_shared.ml.catalogue.datasets import DatasetStore
from rayonnage_shared.ml.catalogue.ingestion.ingest import ingest
from tests.unit.shared.ml.catalogue.catalogues import many_rows, photo, write_csv, write_zip

CATEGORIES = Categories((10, 40), {10: "a", 40: "b"})

# Dies without warning at the nth call of a function of the operating system; what follows does the work.
DEADLY = """
import os, pathlib, signal, sys

data, where, nth = sys.argv[1:4]
owner = os if where in ("fsync", "sync") else pathlib.Path
real, calls = getattr(owner, where), 0

def deadly(*args, **kwargs):
    global calls
    calls += 1
    if calls == int(nth):
        os.kill(os.getpid(), signal.SIGKILL)
    return real(*args, **kwargs)

setattr(owner, where, deadly)
"""
WRITE_ANOTHER = """
from pyarrow import parquet
from rayonnage_shared.ml.catalogue.dataset_writer import write_version, writing
from rayonnage_shared.ml.catalogue.datasets import DatasetStore

store = DatasetStore(pathlib.Path(data))
old = store.current()
table = parquet.read_table(store.version_folder(old) / "products.parquet").slice(0, 5)
with writing(store, wait_s=0):
    write_version(store, table, parent=old, demo=False, ingest_id="x", sync_photos=True)
"""
INGEST = """
from rayonnage_shared.ml.base.categories import Categories
from rayonnage_shared.ml.catalogue.datasets import DatasetStore
from rayonnage_shared.ml.catalogue.ingestion.ingest import ingest

ingest(DatasetStore(pathlib.Path(data)), pathlib.Path(sys.argv[4]), None, pathlib.Path(sys.argv[5]),
       categories=Categories((10, 40), {10: "a", 40: "b"}))
"""


def kill(script: str, store: DatasetStore, where: str, nth: int, *arguments: Path) -> None:
    dead = subprocess.run(
        [sys.executable, "-c", DEADLY + script, str(store.data_path), where, str(nth), *map(str, arguments)],
        capture_output=True,
        check=False,
        timeout=120,
    )
    assert dead.returncode == -signal.SIGKILL, dead.stderr.decode()


@pytest.mark.parametrize(
    ("where", "nth"),
    [("mkdir", 2), ("fsync", 1), ("sync", 1), ("fsync", 3), ("rename", 1), ("fsync", 4), ("replace", 1)],
)
def test_a_writer_killed_at_any_moment_leaves_the_version_before_whole(tmp_path: Path, where: str, nth: int) -> None:
    store = DatasetStore(tmp_path / "data")
    rows = write_csv(tmp_path / "rows.csv", many_rows(10))
    before = ingest(store, rows, None, None, categories=CATEGORIES).dataset_version
    kill(WRITE_ANOTHER, store, where, nth)
    assert store.current() == before
    assert len(store.load(before or "")) == 10
    with writing(store, wait_s=0):
        assert not list(store.folder.glob(".staging-*"))


def test_an_ingest_that_was_killed_is_done_by_sending_it_again(tmp_path: Path) -> None:
    store = DatasetStore(tmp_path / "data")
    rows = write_csv(tmp_path / "new.csv", many_rows(20))
    images = write_zip(tmp_path / "i.zip", {f"image_{5000 + i}_product_{1000 + i}.jpg": photo(i) for i in range(2)})
    kill(INGEST, store, "replace", 2, rows, images)
    assert store.current() is None
    report = ingest(store, rows, None, images, categories=CATEGORIES)
    assert (report.rows_added, report.images_added) == (20, 2)
    assert not (store.photos_folder / ".incoming").exists() or not list((store.photos_folder / ".incoming").iterdir())


def test_a_second_writer_is_turned_away_after_waiting(tmp_path: Path) -> None:
    store = DatasetStore(tmp_path)
    with writing(store, wait_s=0), pytest.raises(IngestBusy), writing(store, wait_s=0.1):
        pass
    with writing(store, wait_s=0):
        pass
