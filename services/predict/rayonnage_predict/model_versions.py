"""What the API shows of the champion and of the model versions on the volume, broken ones included."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from rayonnage_predict.champion import ChampionLoader
from rayonnage_predict.settings import PredictSettings
from rayonnage_shared.ml.bundles.champion import ChampionBroken, read_champion, readable_champion
from rayonnage_shared.ml.bundles.manifest import (
    BundleBroken,
    BundleNotFound,
    Manifest,
    creation_time,
    dataset_of_broken,
    list_versions,
    read_manifest,
)
from rayonnage_shared.ml.catalogue.datasets import DatasetStore
from rayonnage_shared.ml.evaluation.plot_files import plot_names
from rayonnage_shared.ml.evaluation.report import read_report
from rayonnage_shared.registry.schemas import Info, ModelDetails, ModelList, ModelVersion


def champion_info(settings: PredictSettings, loader: ChampionLoader) -> Info:
    """Return the champion that the pointer names, and whether predictions can be made."""
    champion, manifest, broken = None, None, loader.load_error
    try:
        champion = read_champion(settings.models_path)
        manifest = read_manifest(settings.models_path, champion.version) if champion else None
    except (ChampionBroken, BundleBroken, BundleNotFound) as error:
        broken = error.detail
    return Info(
        ready=loader.is_ready,
        version=champion.version if champion else None,
        path=str(settings.models_path / champion.version) if champion else None,
        metrics=manifest.metrics if manifest else {},
        trained_on=manifest.dataset.version if manifest else None,
        last_dataset=DatasetStore(settings.data_path).current(),
        broken=broken,
    )


def list_models(models_path: Path) -> ModelList:
    """Return the model versions, newest first."""
    champion, broken = None, None
    try:
        champion = read_champion(models_path)
    except ChampionBroken as error:
        broken = error.detail
    name = champion.version if champion else None
    return ModelList(champion=name, models=list(_model_versions(models_path, name)), broken=broken)


def describe_model(models_path: Path, version: str) -> ModelDetails:
    """Return one model version. Raises BundleNotFound or BundleBroken."""
    champion = readable_champion(models_path)
    manifest = read_manifest(models_path, version)
    summary = _summary(version, manifest, champion.version if champion else None)
    plots = {name: f"/models/{version}/figures/{name}.png" for name in plot_names(manifest)}
    report = read_report(models_path / version)
    return ModelDetails(**summary.model_dump(), manifest=manifest, evaluation=report, figures=plots)


def _model_versions(models_path: Path, champion: str | None) -> Iterator[ModelVersion]:
    for version in list_versions(models_path):
        try:
            yield _summary(version, read_manifest(models_path, version), champion)
        except BundleBroken as error:
            yield ModelVersion(
                version=version,
                champion=version == champion,
                created_at=creation_time(version),
                families={"text": None, "image": None, "fusion": None},
                dataset_version=dataset_of_broken(models_path, version) or "",
                metrics={},
                broken=error.detail,
            )
        except BundleNotFound:  # removed by another process
            continue


def _summary(version: str, manifest: Manifest, champion: str | None) -> ModelVersion:
    return ModelVersion(
        version=version,
        champion=version == champion,
        created_at=manifest.created_at,
        families=manifest.families.model_dump(),
        dataset_version=manifest.dataset.version,
        metrics=manifest.metrics,
    )
