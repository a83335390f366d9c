"""What predict reads from its environment."""

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
    predict_threads: int = Field(2, ge=1, le=64, description="Products judged at the same time; one core each.")
    predict_max_waiting: int = Field(
        64, ge=1, description="Requests that may wait for a thread; one more is answered 503 with Retry-After."
    )
    prediction_log_texts: bool = Field(
        True,
        description="Keep titles and descriptions in the log of predictions, as drift and feedback need them. They may "
        "hold personal data, in the database and its backups for PREDICTION_LOG_DAYS, or FEEDBACK_DAYS; false keeps "
        "all but them.",
    )
    prediction_log_days: float = Field(
        90, gt=0, description="How long a prediction stays in the log, days; then predict removes it."
    )
    feedback_days: float = Field(
        KEEP_FEEDBACK_DAYS,
        gt=0,
        description="How long feedback stays, days, and the prediction that it is about, if that is longer than "
        "PREDICTION_LOG_DAYS; then predict removes both.",
    )
    prediction_log_max_waiting: int = Field(
        10_000,
        ge=1,
        description="Predictions that wait in memory while the database is away; then the oldest are lost.",
    )
