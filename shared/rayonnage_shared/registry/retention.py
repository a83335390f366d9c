"""Remove old bundles and dataset versions."""

from __future__ import annotations

import shutil
from pathlib import Path

import structlog

from rayonnage_shared.core.errors import RayonnageError
from rayonnage_shared.core.files import REMOVED, remove_folder
from rayonnage_shared.ml.bundles.champion import read_champion
from rayonnage_shared.ml.bundles.manifest import (
    BundleBroken,
    BundleNotFound,
    Manifest,
    dataset_of_broken,
    list_versions,
    read_manifest,
)
from rayonnage_shared.ml.catalogue.datasets import DatasetStore
from rayonnage_shared.ml.evaluation.saved_predictions import predictions_path
from rayonnage_shared.ml.features.photo_feature_cache import PhotoFeatureCache

log = structlog.get_logger()


def prune(models_path: Path, store: DatasetStore, *, bundles_kept: int, datasets_kept: int) -> None:
    """Remove old bundles with their saved predictions, old dataset versions that no bundle names, and unused features.

    Failures are logged and never raised: a training must not fail after its promotion.
    """
    try:
        for version in prune_bundles(models_path, bundles_kept):
            predictions_path(store.data_path, version).unlink(missing_ok=True)
        for version in store.prune(datasets_kept, _datasets_named(models_path)):
            shutil.rmtree(store.processed_folder(version), ignore_errors=True)
            log.info("dataset.pruned", version=version)
        if removed := PhotoFeatureCache(store.photo_features_path).prune():
            log.info("photo_features.pruned", photos=removed)
    except RayonnageError as error:
        log.error("retention.failed", error=error.detail)
    except Exception:
        log.exception("retention.failed")


def prune_bundles(models_path: Path, kept: int) -> list[str]:
    """Remove all but the newest `kept` bundles and return what was removed.

    The champion, the bundles it kept models from and the last three of its history stay. A broken bundle stays too,
    since another version of the platform may be able to read it, and is not counted. Raises ChampionBroken.
    """
    manifests = _readable_manifests(models_path)
    needed = _needed(models_path, manifests)
    for leftover in models_path.glob(f"{REMOVED}*"):
        shutil.rmtree(leftover, ignore_errors=True)
    removed = []
    for version in list(manifests)[kept:]:
        if version in needed:
            continue
        try:
            remove_folder(models_path / version)
        except OSError as error:
            log.error("retention.failed", version=version, error=str(error))
            continue
        log.info("bundle.pruned", version=version)
        removed.append(version)
    return removed


def _readable_manifests(models_path: Path) -> dict[str, Manifest]:
    """Return the manifests by version, newest first, and log the bundles that are broken."""
    found = {}
    for version in list_versions(models_path):
        try:
            found[version] = read_manifest(models_path, version)
        except BundleBroken as error:
            log.warning("bundle.not_pruned", version=version, error=error.detail)
        except BundleNotFound:  # removed by another process
            continue
    return found


def _needed(models_path: Path, manifests: dict[str, Manifest]) -> set[str]:
    champion = read_champion(models_path)
    if champion is None:
        return set()
    needed = {champion.version, *champion.history[-3:]}
    base = champion.version
    while base in manifests and (earlier := manifests[base].base_version) and earlier not in needed:
        needed.add(earlier)
        base = earlier
    return needed


def _datasets_named(models_path: Path) -> set[str]:
    """Return the dataset versions that bundles were trained on, including those that broken manifests still name."""
    named = set()
    for version in list_versions(models_path):
        try:
            named.add(read_manifest(models_path, version).dataset.version)
        except BundleBroken:
            named.add(dataset_of_broken(models_path, version) or "")
        except BundleNotFound:  # removed by another process
            continue
    return named
