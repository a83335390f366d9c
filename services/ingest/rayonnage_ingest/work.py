"""One ingest in a process of its own: a JSON request on standard input, a report or a domain error on standard output.

`python -m rayonnage_ingest.work`, started by `ingestions`.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from rayonnage_shared.errors import RayonnageError
from rayonnage_shared.ml.catalogue.datasets import DatasetStore
from rayonnage_shared.ml.catalogue.ingestion import IngestLimits, ingest
from rayonnage_shared.ml.categories import load_categories
from rayonnage_shared.ml.photos import PhotoLimits


def main() -> None:
    """Do what standard input asks for."""
    json.dump(run(json.load(sys.stdin)), sys.stdout)


def run(request: dict[str, Any]) -> dict[str, Any]:
    """Return {"report": …}, or {"error": …} for a domain error."""
    try:
        report = ingest(
            DatasetStore(Path(request["data_path"])),
            Path(request["features"]),
            _path(request["target"]),
            _path(request["images"]),
            allow_new_codes=request["allow_new_codes"],
            categories=load_categories(_path(request["categories_path"])),
            limits=IngestLimits(
                photos=PhotoLimits(max_bytes=request["max_image_bytes"], max_pixels=request["max_image_pixels"]),
                max_rows=request["max_rows"],
            ),
            ingest_id=request["ingest_id"],
        )
    except RayonnageError as error:
        members = {"status": error.status, "code": error.code, "title": error.title, "detail": error.detail}
        return {"error": members | {"headers": error.headers, "extra": error.extra}}
    return {"report": report.model_dump(mode="json")}


def _path(text: str | None) -> Path | None:
    return None if text is None else Path(text)


if __name__ == "__main__":
    main()
