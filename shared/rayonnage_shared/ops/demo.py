"""What the platform needs before it starts: tables, and unless told otherwise a demo catalogue and a first model."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

from sqlalchemy import Engine

from rayonnage_shared.database.engine import migrate, open_database
from rayonnage_shared.ml.base.progress import Progress
from rayonnage_shared.ml.bundles.champion import readable_champion
from rayonnage_shared.ml.catalogue.datasets import DatasetStore
from rayonnage_shared.ops.local import LocalSettings

JOB_ID = "demo"  # always the same, so that a first training that was interrupted goes on where it was


def has_champion(models_path: Path) -> bool:
    """Return whether there is a model to predict with."""
    return (models_path / "champion.json").is_file()


def has_dataset(data_path: Path) -> bool:
    """Return whether anything was ingested, demo or real."""
    return (data_path / "datasets" / "current.json").is_file()


def prepare(settings: LocalSettings, sample: Path, *, stage: Callable[[str], None], progress: Progress) -> None:
    """Bring the tables up to date; with `settings.demo` also ingest the sample and train, where nothing is there yet.

    The sample is made anew where `sample` is not there. Real products that were ingested before are trained on instead.
    What a checkout names as champion and as current dataset, without having it, comes from the DVC remote. Raises
    NothingToPull, NotOnRemote or SyncTargetUnavailable when it does not.
    """
    settings.models_path.mkdir(parents=True, exist_ok=True)
    settings.data_path.mkdir(parents=True, exist_ok=True)
    stage("database")
    engine = open_database(settings.database_url)
    try:
        migrate(engine)
        if _is_incomplete(settings):
            _pull(settings, stage, progress)
        if not settings.demo or has_champion(settings.models_path):
            return
        if not has_dataset(settings.data_path):
            _ingest_sample(settings, sample, stage, progress)
        _train(settings, engine, stage, progress)
    finally:
        engine.dispose()


def _is_incomplete(settings: LocalSettings) -> bool:
    champion, dataset = readable_champion(settings.models_path), DatasetStore(settings.data_path).current()
    named = [settings.models_path / champion.version] if champion else []
    named += [settings.data_path / "datasets" / dataset] if dataset else []
    return not all((folder / "manifest.json").is_file() for folder in named)


def _pull(settings: LocalSettings, stage: Callable[[str], None], progress: Progress) -> None:
    from rayonnage_shared.sync.dvc.pull import pull

    stage("pull")
    pull(settings, lambda sentence: progress(0.5, sentence))


def _ingest_sample(settings: LocalSettings, sample: Path, stage: Callable[[str], None], progress: Progress) -> None:
    from rayonnage_shared.ml.base.categories import load_categories
    from rayonnage_shared.ml.catalogue.ingestion.ingest import ingest
    from rayonnage_shared.ml.catalogue.sample.generator import generate_sample

    if not (sample / "features.csv").is_file():
        stage("sample")
        generate_sample(sample, progress=progress)
    stage("ingest")
    ingest(
        DatasetStore(settings.data_path),
        sample / "features.csv",
        sample / "target.csv",
        sample / "images.zip",
        allow_new_codes=False,
        demo=True,
        categories=load_categories(settings.categories_path),
        progress=progress,
    )


def _train(settings: LocalSettings, engine: Engine, stage: Callable[[str], None], progress: Progress) -> None:
    from rayonnage_shared.ml.training.requests import TrainRequest
    from rayonnage_shared.pipelines.training import train

    work = settings.models_path / ".work" / JOB_ID
    try:
        train(
            TrainRequest(),
            settings=settings,
            engine=engine,
            work=work,
            job_id=JOB_ID,
            submitted_by="make run",
            stage=stage,
            progress=progress,
        )
    finally:
        shutil.rmtree(work, ignore_errors=True)  # a killed run resumes; one that ended in any way starts afresh
