"""Settings of the predict service."""

from __future__ import annotations

from pydantic import Field

from rayonnage_shared.core.settings import (
    DatabaseSettings,
    PhotoLimitSettings,
    PredictBodySettings,
    ServiceSettings,
    StorageSettings,
)
from rayonnage_shared.predictions.log import KEEP_FEEDBACK_DAYS


class PredictSettings(ServiceSettings, StorageSettings, DatabaseSettings, PredictBodySettings, PhotoLimitSettings):
    """Settings of the predict service."""

    predict_host: str = Field("127.0.0.1", description="Address that predict listens on.")
    predict_port: int = Field(8003, ge=1, le=65535, description="Port that predict listens on.")
    predict_replica: int = Field(
        1, ge=1, description="Number of this replica, set by `make run`; replica 2 logs to predict-2.log."
    )
    predict_threads: int = Field(2, ge=1, le=64, description="Threads that run models; each uses one core.")
    predict_max_wait_s: float = Field(
        0.75,
        gt=0,
        le=60,
        description="Seconds that a request may wait for a thread; one that would wait longer is answered 503 with "
        "Retry-After at once.",
    )
    predict_max_bytes_in_flight: int = Field(
        100_000_000,
        ge=1_000_000,
        description="Memory for request bodies above 64 kB, all together; a body that does not fit is answered 503.",
    )
    prediction_log_texts: bool = Field(
        True,
        description="Whether the prediction log keeps titles and descriptions, which drift reports and feedback need. "
        "They may contain personal data, and stay in the database and its backups for PREDICTION_LOG_DAYS or "
        "FEEDBACK_DAYS.",
    )
    prediction_log_days: float = Field(
        90, gt=0, description="Days after which predict removes a prediction from the log."
    )
    feedback_days: float = Field(
        KEEP_FEEDBACK_DAYS,
        gt=0,
        description="Days after which predict removes feedback; its prediction is kept as long, whatever "
        "PREDICTION_LOG_DAYS is.",
    )
    prediction_log_max_waiting: int = Field(
        10_000,
        ge=1,
        description="Predictions kept in memory while the database is unavailable; beyond that the oldest are lost.",
    )
