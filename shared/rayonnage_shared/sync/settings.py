"""Settings of a sync run."""

from __future__ import annotations

from rayonnage_shared.core.settings import DatabaseSettings
from rayonnage_shared.sync.dvc.settings import VersioningSettings
from rayonnage_shared.sync.mlflow.settings import MlflowSettings


class SyncSettings(DatabaseSettings, MlflowSettings, VersioningSettings):
    """What those need who follow the volumes; see `follow_up`."""
