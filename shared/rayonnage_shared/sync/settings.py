"""Settings of a sync run."""

from __future__ import annotations

from rayonnage_shared.core.settings import DatabaseSettings
from rayonnage_shared.sync.dvc.settings import VersioningSettings
from rayonnage_shared.sync.mlflow.settings import MlflowSettings


class SyncSettings(DatabaseSettings, MlflowSettings, VersioningSettings):
    """What a sync run reads: the database, MLflow and the DVC remote."""
