"""Manifests of small bundles for tests."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from rayonnage_shared.ml.bundles.bundle import DECISIONS_NAME
from rayonnage_shared.ml.bundles.manifest import Manifest, hash_files, write_manifest
from rayonnage_shared.ml.calibration.thresholds import Decisions

VERSION = "20261121T081500Z-3f2a"
DATASET = "20261120T081500Z-aaaa"


def a_manifest(version: str = VERSION, **changes: Any) -> Manifest:
    """Return the manifest of a text bundle with some fields replaced."""
    document = {
        "format": 1,
        "version": version,
        "created_at": "2026-11-21T08:15:00+00:00",
        "families": {"text": "tfidf-svm", "image": None, "fusion": None},
        "categories": {"codes": [10, 40], "labels": {"10": "Livres", "40": "Jeux"}},
        "dataset": {"version": DATASET, "sha256": "ab" * 32, "demo": False},
        "base_version": None,
        "code_version": "1.0-dirty",
        "parameters": {"penalty": 2.0},
        "seed": 7,
        "promised_precision": 0.95,
        "submitted_by": "jane",
        "metrics": {"accuracy": 0.9, "rows": 80},
        "libraries": {"numpy": "2.4.6"},
        "models": {},
        "files": {},
    }
    return Manifest.model_validate(document | changes)


def write_bundle(models_path: Path, version: str = VERSION, **changes: Any) -> Path:
    """Write the folder of a bundle that has no files except its manifest, and return the folder."""
    folder = models_path / version
    folder.mkdir(parents=True, exist_ok=True)
    write_manifest(folder, a_manifest(version, **changes))
    return folder


def write_loadable_bundle(models_path: Path, version: str = VERSION, **changes: Any) -> Path:
    """Write a bundle that can be loaded and promoted, though it has no models, and return its folder."""
    folder = write_bundle(models_path, version)
    Decisions(0.95, {}).save(folder / DECISIONS_NAME)
    families = {"text": None, "image": None, "fusion": None}
    return write_bundle(models_path, version, families=families, files=hash_files(folder), **changes)
