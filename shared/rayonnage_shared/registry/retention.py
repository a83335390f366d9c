"""Remove old bundles and dataset versions."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import structlog

from rayonnage_shared.ml.bundles.champion import read_champion
from rayonnage_shared.ml.bundles.manifest import list_versions, read_manifest
from rayonnage_shared.ml.catalogue.datasets import DatasetStore
from rayonnage_shared.ml.evaluation.saved_predictions import predictions_path

log = structlog.get_logger()


def prune(models_path: Path, store: DatasetStore, *, bundles_kept: int, datasets_kept: int) -> None:
    """Remove old bundles and what they predicted, then old dataset versions that no bundle is left of."""
    for version in prune_bundles(models_path, bundles_kept):
        predictions_path(store.data_path, version).unlink(missing_ok=True)
    named = {read_manifest(models_path, version).dataset.version for version in list_versions(models_path)}
    for version in store.prune(datasets_kept, named):
        log.info("dataset.pruned", version=version)


def prune_bundles(models_path: Path, kept: int) -> list[str]:
    """Remove all but the newest `kept` bundles; never the champion, what it came from, or what it can roll back to."""
    champion = read_champion(models_path)
    needed: set[str] = set()
    if champion is not None:
        needed = {champion.version, *champion.history[-3:]}
        base: str | None = champion.version
        while base is not None and (models_path / base / "manifest.json").exists():
            needed.add(base)
            base = json.loads((models_path / base / "manifest.json").read_text(encoding="utf-8")).get("base_version")
            if base in needed:
                break
    removed = [version for version in list_versions(models_path)[kept:] if version not in needed]
    for version in removed:
        shutil.rmtree(models_path / version)
        log.info("bundle.pruned", version=version)
    return removed
