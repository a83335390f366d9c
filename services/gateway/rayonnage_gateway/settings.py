"""What the gateway needs to know."""

from __future__ import annotations

from typing import Annotated

import limits
from pydantic import BeforeValidator, Field

from rayonnage_shared.core.settings import (
    MEBIBYTE,
    IngestBodySettings,
    OptionalSecret,
    PredictBodySettings,
    Proxies,
    ServiceSettings,
)


def _rate_limit(value: object) -> object:
    if value in (None, "", "off"):
        return None
    limits.parse_many(str(value))  # raises ValueError; slowapi itself only logs a limit it cannot read, and sets none
    return value


RateLimit = Annotated[str | None, BeforeValidator(_rate_limit)]


class GatewaySettings(ServiceSettings, PredictBodySettings, IngestBodySettings):
    """Where the services are, how long they may take, and how much callers may send."""

    gateway_host: str = Field("127.0.0.1", description="Address that the gateway listens on.")
    gateway_port: int = Field(8000, ge=0, le=65535, description="The platform's one public port.")
    gateway_metrics_host: str = Field("127.0.0.1", description="Address of the gateway's own metrics; keep it inside.")
    gateway_metrics_port: int = Field(8010, ge=0, le=65535, description="Port of the gateway's own metrics.")

    ingest_url: str = Field(
        "http://127.0.0.1:8001", description="Where ingest is; several by commas, or a name of several."
    )
    train_url: str = Field(
        "http://127.0.0.1:8002", description="Where train is; several by commas, or a name of several."
    )
    predict_url: str = Field(
        "http://127.0.0.1:8003", description="Where predict is; several by commas, or a name of several."
    )

    gateway_forwarded_allow_ips: Proxies = Field(
        "", description="Proxies whose X-Forwarded-For and -Proto are believed: addresses, networks; empty for none."
    )
    predict_rate_limit: RateLimit = Field(
        "10/minute", description="Predictions each user may ask for, such as 10/minute; `off` for no limit."
    )
    redis_url: OptionalSecret = Field(
        None, description="Where rate limits are counted when several gateways share them; in memory when empty."
    )

    small_max_body_bytes: int = Field(64 * 1024, gt=0, description="Largest body of every other route, bytes.")
    gateway_held_bytes: int = Field(
        256 * MEBIBYTE, ge=0, description="Bodies of predictions held for a replay, all together; more are streamed."
    )

    gateway_connections: int = Field(128, gt=0, description="Requests under way to one service at a time.")
    gateway_streams: int = Field(64, gt=0, description="Event streams open to one service at a time.")
    gateway_waiting: int = Field(256, ge=0, description="Requests that may wait for a connection; more get 503.")
    gateway_wait_s: float = Field(0.5, gt=0, description="Longest wait for a connection before 503, seconds.")
    gateway_connect_timeout_s: float = Field(2, gt=0, description="Time to connect to a service, seconds.")
    gateway_keep_alive_s: float = Field(
        3, gt=0, description="Idle time after which a connection to a service is closed; below the services' own 5 s."
    )
    gateway_timeout_s: float = Field(15, gt=0, description="Time to the first byte of an answer, seconds.")
    gateway_move_timeout_s: float = Field(
        55, gt=0, description="The same for a promotion or rollback, which tries the bundle first; below nginx's 60 s."
    )
    gateway_ingest_timeout_s: float = Field(
        1800, gt=0, description="Time to the first byte of an ingest's answer once the upload is over, seconds."
    )
    gateway_idle_timeout_s: float = Field(
        45, gt=0, description="Longest silence within an answer, seconds; event streams say something every 15 s."
    )
    gateway_caller_timeout_s: float = Field(
        30, gt=0, description="Longest silence of a caller who is sending a body or should be reading, seconds."
    )
