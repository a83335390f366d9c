"""Bundle folders with nothing in them but what sync targets read."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

FIRST, SECOND, THIRD = (f"2026112{day}T081500Z-000{day}" for day in (1, 2, 3))


def manifest(version: str, **changes: Any) -> dict[str, Any]:
    """Return the manifest of a text bundle."""
    return {
        "version": version,
        "created_at": "2026-11-21T08:15:00+00:00",
        "families": {"text": "tfidf-svm", "image": None, "fusion": None},
        "dataset": {"version": "20261120T081500Z-aaaa", "sha256": "ab" * 32, "demo": False},
        "base_version": None,
        "code_version": "1.0-dirty",
        "parameters": {"penalty": 2.0},
        "seed": 7,
        "promised_precision": 0.95,
        "submitted_by": "jane",
        "metrics": {"accuracy": 0.9, "rows": 80},
        **changes,
    }


def write_bundle(models_path: Path, version: str, **changes: Any) -> Path:
    """Write such a bundle's folder."""
    folder = models_path / version
    folder.mkdir(parents=True)
    (folder / "manifest.json").write_text(json.dumps(manifest(version, **changes)))
    return folder
