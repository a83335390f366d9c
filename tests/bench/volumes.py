"""Volumes with other models than the demo's."""

from __future__ import annotations

import shutil
from pathlib import Path

from rayonnage_shared.database.engine import open_database
from rayonnage_shared.ml.base.progress import silent
from rayonnage_shared.ml.training.requests import TrainRequest
from rayonnage_shared.ops.local import LocalSettings
from rayonnage_shared.pipelines.run_context import RunContext
from rayonnage_shared.pipelines.training import train


def train_text_family(base: Path, home: Path, family: str) -> Path:
    """Copy the volume `base` to `home`, train the text family there and promote it; return `home`."""
    shutil.copytree(base, home)
    settings = LocalSettings(
        models_path=home / "models", data_path=home / "data", database_url=f"sqlite:///{home}/data/rayonnage.db"
    )
    engine = open_database(settings.database_url)
    run = RunContext(
        settings=settings,
        engine=engine,
        job_id=f"bench-{family}",
        submitted_by="bench",
        stage=lambda name: None,
        progress=silent,
    )
    try:
        train(TrainRequest(text=family, image=None, promote="always"), run)
    finally:
        run.remove_work()
        engine.dispose()
    return home
