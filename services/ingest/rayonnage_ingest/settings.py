"""What ingest reads from its environment."""

from __future__ import annotations

from pydantic import Field

from rayonnage_shared.core.settings import DatabaseSettings, ServiceSettings, StorageSettings


class IngestSettings(ServiceSettings, StorageSettings, DatabaseSettings):
    """Settings of the ingest service."""

    ingest_host: str = Field("127.0.0.1", description="Address that ingest listens on.")
    ingest_port: int = Field(8001, ge=1, le=65535, description="Port that ingest listens on.")
    ingest_max_body_bytes: int = Field(2 * 1024 * 1024 * 1024, gt=0, description="Largest body of an ingest, bytes.")
    ingest_max_rows: int = Field(1_000_000, gt=0, description="Most rows in one ingest.")
    ingest_max_waiting: int = Field(
        2, ge=0, le=100, description="Ingests that may wait for the one at work; one more is answered 503."
    )
    ingest_upload_timeout_s: float = Field(3600, gt=0, description="Longest time that an upload may take, seconds.")
    ingest_idle_timeout_s: float = Field(
        60, gt=0, description="Time without a byte after which an upload is given up, seconds."
    )
    ingest_work_timeout_s: float = Field(3600, gt=0, description="Longest time that the work itself may take, seconds.")
    feedback_ingest_every_h: float = Field(
        24,
        ge=0,
        le=24 * 366,
        description="Hours between two ingests of what was said about predictions by POST /feedback; 0 for none.",
    )
    max_image_bytes: int = Field(5_000_000, gt=0, description="Largest photo, bytes.")
    max_image_pixels: int = Field(25_000_000, gt=0, description="Largest photo, width × height in pixels.")
