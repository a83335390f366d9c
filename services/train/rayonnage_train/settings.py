"""What train and its worker read from the environment."""

from __future__ import annotations

from pydantic import Field

from rayonnage_shared.core.settings import ServiceSettings
from rayonnage_shared.drift.settings import DriftSettings
from rayonnage_shared.ml.networks.settings import CamembertSettings
from rayonnage_shared.pipelines.settings import PipelineSettings
from rayonnage_shared.sync.settings import SyncSettings


class TrainSettings(ServiceSettings, PipelineSettings, DriftSettings, SyncSettings, CamembertSettings):
    train_host: str = Field("127.0.0.1", description="Address that train listens on.")
    train_port: int = Field(8002, ge=1, le=65535, description="Port that train listens on.")
    train_max_queued: int = Field(100, ge=1, description="Jobs of one kind that may wait; further ones get 503.")
    train_max_event_streams: int = Field(
        32, ge=1, le=1000, description="Clients that may stream job events at the same time."
    )
    train_self_check_timeout_s: float = Field(
        10, gt=0, description="Time limit of GET /test/preprocess/text/manual; less than GATEWAY_TIMEOUT_S, seconds."
    )
    train_install_families: bool = Field(
        False,
        description="Let jobs install what the families lstm, vgg16, resnet50 and camembert need, as `make keras` and "
        "`make camembert-env` do; not in containers.",
    )
    train_install_timeout_s: float = Field(1800, gt=0, description="Time limit of such an installation, seconds.")
    train_worker_metrics_host: str = Field("127.0.0.1", description="Address of the worker's metrics.")
    train_worker_metrics_port: int = Field(8012, ge=1, le=65535, description="Port of the worker's metrics.")
    train_lease_s: float = Field(
        8.0, ge=1, le=300, description="Seconds without a heartbeat after which another worker may claim a job."
    )
    train_sync_limit_s: float = Field(
        1800, ge=1, description="Time after which a sync (MLflow, DVC) is killed and started again, seconds."
    )
