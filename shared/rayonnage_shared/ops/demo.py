"""Prepare the first start: the tables and, unless disabled, a demo catalogue and a first model."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from rayonnage_shared.database.engine import migrate, open_database
from rayonnage_shared.ml.base.progress import Progress
from rayonnage_shared.ml.bundles.champion import readable_champion
from rayonnage_shared.ml.catalogue.datasets import DatasetStore
from rayonnage_shared.ml.catalogue.photo_shards import SHARDS_FOLDER
from rayonnage_shared.ops.local import LocalSettings
from rayonnage_shared.pipelines.run_context import RunContext
from rayonnage_shared.sync.dvc.local_config import write_local_config

JOB_ID = "demo"  # always the same, so that an interrupted first training resumes

_INGESTED = 0.2
"""How much of the preparation is done when the sample is ingested."""


def has_champion(models_path: Path) -> bool:
    """Return whether there is a model to predict with."""
    return (models_path / "champion.json").is_file()


def has_dataset(data_path: Path) -> bool:
    """Return whether anything was ingested, demo or real."""
    return (data_path / "datasets" / "current.json").is_file()


def prepare(settings: LocalSettings, sample: Path, *, stage: Callable[[str], None], progress: Progress) -> None:
    """Migrate the database; with `settings.demo` also ingest the sample and train a model, unless there is one.

    The sample is generated if `sample` does not have it. If real products were ingested before, the model is trained
    on them instead. In a checkout, the DVC remote is written to `.dvc/config.local`, and a champion or current dataset
    that the checkout names and does not have is pulled. Raises NothingToPull, NotOnRemote or SyncTargetUnavailable if
    that fails.
    """
    settings.models_path.mkdir(parents=True, exist_ok=True)
    settings.data_path.mkdir(parents=True, exist_ok=True)
    engine = open_database(settings.database_url)
    run = RunContext(
        settings=settings, engine=engine, job_id=JOB_ID, submitted_by="make run", stage=stage, progress=progress
    )
    try:
        run.stage("database")
        migrate(engine)
        write_local_config(settings)
        if _is_incomplete(settings):
            _pull(run)
        if not settings.demo or has_champion(settings.models_path):
            return
        if not has_dataset(settings.data_path):
            _ingest_sample(run.child(end=_INGESTED), sample)
        _train(run.child(start=_INGESTED))
    finally:
        engine.dispose()


def _is_incomplete(settings: LocalSettings) -> bool:
    champion, dataset = readable_champion(settings.models_path), DatasetStore(settings.data_path).current()
    named = [settings.models_path / champion.version] if champion else []
    named += [settings.data_path / "datasets" / dataset] if dataset else []
    packed_photos = (settings.data_path / SHARDS_FOLDER).glob("*.tar")  # what `dvc pull` brings
    return any(packed_photos) or not all((folder / "manifest.json").is_file() for folder in named)


def _pull(run: RunContext[LocalSettings]) -> None:
    from rayonnage_shared.sync.dvc.pull import pull

    run.stage("pull")
    pull(run.settings, lambda sentence: run.progress(0.5, sentence))


def _ingest_sample(run: RunContext[LocalSettings], sample: Path) -> None:
    from rayonnage_shared.ml.base.categories import load_categories
    from rayonnage_shared.ml.catalogue.ingestion.ingest import ingest
    from rayonnage_shared.ml.catalogue.sample.generator import generate_sample

    if not (sample / "features.csv").is_file():
        run.stage("sample")
        generate_sample(sample, progress=run.progress)
    run.stage("ingest")
    ingest(
        run.datasets,
        sample / "features.csv",
        sample / "target.csv",
        sample / "images.zip",
        allow_new_codes=False,
        demo=True,
        categories=load_categories(run.settings.categories_path),
        progress=run.progress,
    )


def _train(run: RunContext[LocalSettings]) -> None:
    from rayonnage_shared.ml.training.requests import TrainRequest
    from rayonnage_shared.pipelines.training import train

    try:
        train(TrainRequest(), run)
    finally:
        run.remove_work()  # a run that was killed is resumed, one that succeeded or failed is not
