"""Dataset versions that have a manifest and no products."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path

from rayonnage_shared.ml.catalogue.schemas import Dataset

VERSION = "20261121T081500Z-3f2a"


def write_dataset(data_path: Path, rows: int = 40, version: str = VERSION) -> None:
    """Write the manifest of a version with `rows` training rows of two categories, and make it the current one."""
    dataset = Dataset(
        version=version,
        parent=None,
        demo=False,
        created_at=datetime.now(UTC),
        rows=rows + 2,
        rows_with_image=0,
        rows_train=rows,
        rows_test=2,
        sha256="0" * 64,
        classes={"10": rows, "40": 2},
    )
    folder = data_path / "datasets" / version
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "manifest.json").write_text(dataset.model_dump_json())
    (folder.parent / "current.json").write_text(json.dumps({"real": version, "demo": None}))
