"""The settings of the gateway."""

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
    ServiceUrls,
)


def _rate_limit(value: object) -> object:
    if value in (None, "", "off"):
        return None
    limits.parse_many(str(value))  # raises ValueError; slowapi would log an invalid limit and apply none
    return value


RateLimit = Annotated[str | None, BeforeValidator(_rate_limit)]


class GatewaySettings(ServiceSettings, PredictBodySettings, IngestBodySettings):
    """Addresses and timeouts of the services, and limits for clients."""

    gateway_host: str = Field("127.0.0.1", description="Address that the gateway listens on.")
    gateway_port: int = Field(8000, ge=0, le=65535, description="The platform's one public port.")
    gateway_metrics_host: str = Field(
        "127.0.0.1", description="Address that the gateway's metrics are served on; not public."
    )
    gateway_metrics_port: int = Field(
        8010, ge=0, le=65535, description="Port that the gateway's metrics are served on."
    )

    ingest_url: ServiceUrls = Field(
        "http://127.0.0.1:8001",
        description="URLs of ingest, separated by commas; a host name may resolve to several addresses.",
    )
    train_url: ServiceUrls = Field(
        "http://127.0.0.1:8002",
        description="URLs of train, separated by commas; a host name may resolve to several addresses.",
    )
    predict_url: ServiceUrls = Field(
        "http://127.0.0.1:8003",
        description="URLs of predict, separated by commas; a host name may resolve to several addresses.",
    )

    gateway_forwarded_allow_ips: Proxies = Field(
        "", description="Proxies whose X-Forwarded-For and -Proto are trusted: addresses or networks; empty for none."
    )
    predict_rate_limit: RateLimit = Field(
        "10/minute", description="Predictions allowed per user, such as 10/minute; `off` for no limit."
    )
    redis_url: OptionalSecret = Field(
        None, description="Redis that counts for the rate limit, for several gateways; counted in memory when empty."
    )

    small_max_body_bytes: int = Field(64 * 1024, gt=0, description="Largest body of every other route, bytes.")
    gateway_replay_buffer_bytes: int = Field(
        256 * MEBIBYTE,
        ge=0,
        description="Memory for prediction bodies kept for a replay; bodies beyond it are streamed, bytes.",
    )

    gateway_connections: int = Field(128, gt=0, description="Most requests in progress with one service.")
    gateway_streams: int = Field(64, gt=0, description="Most event streams open to one service.")
    gateway_waiting: int = Field(256, ge=0, description="Most requests that wait for a connection; more get 503.")
    gateway_wait_s: float = Field(0.5, gt=0, description="Longest wait for a connection before 503, seconds.")
    gateway_connect_timeout_s: float = Field(2, gt=0, description="Time to connect to a service, seconds.")
    gateway_keep_alive_s: float = Field(
        3, gt=0, description="Time after which an idle connection to a service is closed; less than the services' 75 s."
    )
    gateway_timeout_s: float = Field(15, gt=0, description="Time to the first byte of a response, seconds.")
    gateway_promotion_timeout_s: float = Field(
        55,
        gt=0,
        description="The same for a promotion or rollback, which loads the bundle first; less than nginx's 60 s.",
    )
    gateway_ingest_timeout_s: float = Field(
        1800, gt=0, description="Time to the first byte of an ingest's response after its upload, seconds."
    )
    gateway_total_timeout_s: float = Field(
        120, gt=0, description="Longest time from a request's head to the end of its response, seconds."
    )
    gateway_ingest_total_timeout_s: float = Field(
        7200, gt=0, description="The same for an ingest, whose upload may have gigabytes, seconds."
    )
    gateway_idle_timeout_s: float = Field(
        45, gt=0, description="Longest pause within a response, seconds; event streams send something every 15 s."
    )
    gateway_client_timeout_s: float = Field(
        30, gt=0, description="Longest pause of a client in sending a body or reading a response, seconds."
    )
