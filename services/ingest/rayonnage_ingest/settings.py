"""Settings of the ingest service."""

from __future__ import annotations

from pydantic import Field

from rayonnage_shared.core.settings import (
    DatabaseSettings,
    IngestBodySettings,
    PhotoLimitSettings,
    ServiceSettings,
    StorageSettings,
)


class IngestSettings(ServiceSettings, StorageSettings, DatabaseSettings, IngestBodySettings, PhotoLimitSettings):
    """Settings of the ingest service."""

    ingest_host: str = Field("127.0.0.1", description="Address that ingest listens on.")
    ingest_port: int = Field(8001, ge=1, le=65535, description="Port that ingest listens on.")
    ingest_max_rows: int = Field(1_000_000, gt=0, description="Maximum rows of one ingest.")
    ingest_max_waiting: int = Field(
        2, ge=0, le=100, description="Ingests that may wait for the running one; further ones get 503."
    )
    ingest_upload_timeout_s: float = Field(3600, gt=0, description="Maximum time of an upload, seconds.")
    ingest_idle_timeout_s: float = Field(
        60, gt=0, description="Time without data after which an upload is aborted, seconds."
    )
    ingest_work_timeout_s: float = Field(
        3600, gt=0, description="Maximum time of the ingest after the upload, seconds."
    )
    feedback_ingest_every_h: float = Field(
        24,
        ge=0,
        le=24 * 366,
        description="Hours between two ingests of feedback (POST /feedback); 0 disables them.",
    )
