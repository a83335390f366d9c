"""Write dataset versions: one writer at a time, atomically, even if the process is killed."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

from rayonnage_shared.core.errors import RayonnageError
from rayonnage_shared.core.files import REMOVED, FileLocked, open_locked, sha256_of, sync_to_disk
from rayonnage_shared.ml.catalogue.datasets import Current, DatasetStore
from rayonnage_shared.ml.catalogue.products import TEST, TRAIN
from rayonnage_shared.ml.catalogue.schemas import Dataset

if TYPE_CHECKING:
    import pyarrow as pa

_STAGING = ".staging-"


class IngestBusy(RayonnageError):
    status, code, title = 503, "ingest_busy", "Another ingest is running"


@contextmanager
def writing(store: DatasetStore, *, wait_s: float) -> Iterator[None]:
    """Hold the writer lock, and remove the files of a writer that crashed. Raises IngestBusy after `wait_s`."""
    try:
        file = open_locked(store.folder / ".lock", wait_s=wait_s)
    except FileLocked as error:
        raise IngestBusy(
            "Another ingest is writing a dataset version; try again when it is done.", headers={"Retry-After": "10"}
        ) from error
    with file:
        for leftover in (*store.folder.glob(f"{_STAGING}*"), *store.folder.glob(f"{REMOVED}*")):
            shutil.rmtree(leftover, ignore_errors=True)
        shutil.rmtree(store.photos_folder / ".incoming", ignore_errors=True)
        yield


def write_version(
    store: DatasetStore, table: pa.Table, *, parent: str | None, demo: bool, ingest_id: str, sync_photos: bool
) -> Dataset:
    """Write `table` as the newest version, real or demo, and return its manifest. Needs the writer lock."""
    from pyarrow import parquet

    staging = store.folder / f"{_STAGING}{ingest_id}"
    staging.mkdir()
    products = staging / "products.parquet"
    parquet.write_table(table, products, compression="zstd")
    sha256 = sha256_of(products)
    created_at, version = _next_version(store, sha256)
    dataset = _describe(table, version=version, parent=parent, demo=demo, created_at=created_at, sha256=sha256)
    manifest = {"format": 1, **dataset.model_dump(mode="json"), "ingest_id": ingest_id}
    _write(staging / "manifest.json", manifest)
    if sync_photos:
        os.sync()  # one sync for thousands of small files, before anything points to them
    sync_to_disk(products)
    sync_to_disk(staging)
    staging.rename(store.folder / version)
    sync_to_disk(store.folder)
    _point(store, version, demo=demo)
    return dataset


def _point(store: DatasetStore, version: str, *, demo: bool) -> None:
    before = store.pointers()
    after = Current(real=before.real, demo=version) if demo else Current(real=version, demo=before.demo)
    temporary = store.folder / f"{_STAGING}pointer"
    temporary.mkdir()
    _write(temporary / "current.json", {"real": after.real, "demo": after.demo})
    (temporary / "current.json").replace(store.pointer_path)
    temporary.rmdir()
    sync_to_disk(store.folder)


def _describe(
    table: pa.Table, *, version: str, parent: str | None, demo: bool, created_at: datetime, sha256: str
) -> Dataset:
    counts = {row["values"]: row["counts"] for row in table["prdtypecode"].value_counts().to_pylist()}
    splits = {row["values"]: row["counts"] for row in table["split"].value_counts().to_pylist()}
    return Dataset(
        version=version,
        parent=parent,
        demo=demo,
        created_at=created_at,
        rows=table.num_rows,
        rows_with_image=table.num_rows - table["photo"].null_count,
        rows_train=splits.get(TRAIN, 0),
        rows_test=splits.get(TEST, 0),
        sha256=sha256,
        classes={str(code): counts[code] for code in sorted(counts)},
    )


def _next_version(store: DatasetStore, sha256: str) -> tuple[datetime, str]:
    """Return the time and a name that sorts after all others, even within one second or after a clock change."""
    moment = datetime.now(UTC).replace(microsecond=0)
    last = store.versions()[-1:]
    if last:
        latest = datetime.strptime(last[0].split("-")[0], "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC)
        moment = max(moment, latest + timedelta(seconds=1))
    return moment, f"{moment:%Y%m%dT%H%M%SZ}-{sha256[:4]}"


def _write(path: Path, document: dict[str, object]) -> None:
    with path.open("w", encoding="utf-8") as file:
        json.dump(document, file, indent=2)
        file.flush()
        os.fsync(file.fileno())
