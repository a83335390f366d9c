"""Run one ingest in its own process: JSON request on standard input, report or domain error on standard output.

`python -m rayonnage_ingest.work`, started by `ingestions`.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from rayonnage_shared.core.disk import is_disk_full, storage_full
from rayonnage_shared.core.errors import DependencyDown, RayonnageError
from rayonnage_shared.ml.base.categories import load_categories
from rayonnage_shared.ml.catalogue.datasets import DatasetStore
from rayonnage_shared.ml.catalogue.ingestion.ingest import IngestLimits, ingest
from rayonnage_shared.ml.catalogue.schemas import IngestReport
from rayonnage_shared.ml.features.photos import PhotoLimits


def main() -> None:
    """Run the request on standard input."""
    json.dump(run(json.load(sys.stdin)), sys.stdout)


def run(request: dict[str, Any]) -> dict[str, Any]:
    """Return {"report": …}, or {"error": …} for a domain error."""
    store = DatasetStore(Path(request["data_path"]))
    features = _path(request["features"])
    options: dict[str, Any] = {
        "categories": load_categories(_path(request["categories_path"])),
        "limits": IngestLimits(
            photos=PhotoLimits(max_bytes=request["max_image_bytes"], max_pixels=request["max_image_pixels"]),
            max_rows=request["max_rows"],
        ),
        "ingest_id": request["ingest_id"],
    }
    try:
        if features is None:
            report = _ingest_feedback(store, request["database_url"], options)
        else:
            target, images = _path(request["target"]), _path(request["images"])
            report = ingest(store, features, target, images, allow_new_codes=request["allow_new_codes"], **options)
    except OSError as error:
        if not is_disk_full(error):
            raise
        return _refused(storage_full())
    except RayonnageError as error:
        return _refused(error)
    return {"report": report.model_dump(mode="json")}


def _refused(error: RayonnageError) -> dict[str, Any]:
    members = {"status": error.status, "code": error.code, "title": error.title, "detail": error.detail}
    return {"error": members | {"headers": error.headers, "extra": error.extra}}


def _ingest_feedback(store: DatasetStore, database_url: str, options: dict[str, Any]) -> IngestReport:
    from sqlalchemy.exc import InterfaceError, OperationalError

    from rayonnage_shared.database.engine import is_database_full, migrate, open_database
    from rayonnage_shared.feedback.ingestion import ingest_feedback

    engine = open_database(database_url)
    try:
        migrate(engine)
        return ingest_feedback(store, engine, **options)
    except (OperationalError, InterfaceError) as error:
        if is_database_full(error):
            raise storage_full() from error
        raise DependencyDown("The database is unavailable or overloaded; try again in a moment.") from error
    finally:
        engine.dispose()


def _path(text: str | None) -> Path | None:
    return None if text is None else Path(text)


if __name__ == "__main__":
    main()
