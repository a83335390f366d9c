"""Builds the gateway, the platform's one public entry point."""

from __future__ import annotations

import contextlib
import dataclasses
import functools
from collections.abc import AsyncIterator, Iterator

import structlog
from fastapi import FastAPI

from rayonnage_gateway.docs_pages import docs_routes
from rayonnage_gateway.documentation import Documentation
from rayonnage_gateway.forwarding_path import ForwardingPath
from rayonnage_gateway.rate_limit import prediction_rate_limiter
from rayonnage_gateway.readiness import Readiness
from rayonnage_gateway.routes import PUBLIC_ROUTES, forwarding_routes, own_router
from rayonnage_gateway.settings import GatewaySettings
from rayonnage_gateway.upstream import PoolLimits, Upstream
from rayonnage_shared.auth.dependencies import refreshing_keys
from rayonnage_shared.auth.tokens import TokenVerifier
from rayonnage_shared.core.background import background
from rayonnage_shared.http.app import create_service
from rayonnage_shared.observability.http_metrics import PROBES
from rayonnage_shared.observability.metrics_server import metrics_server

log = structlog.get_logger()


def create_app(settings: GatewaySettings) -> FastAPI:
    """Return the gateway as an ASGI application; its connections open and close with its lifespan."""
    verifier = TokenVerifier(settings)
    urls = {
        "auth": settings.auth_url,
        "ingest": settings.ingest_url,
        "train": settings.train_url,
        "predict": settings.predict_url,
    }
    limits = _pool_limits(settings)
    upstreams = {service: Upstream(service, url, limits) for service, url in urls.items()}
    # Event streams stay open for hours: in a pool of their own, they cannot use up the slots of short requests.
    stream_limits = dataclasses.replace(limits, connections=settings.gateway_streams, waiting=0)
    streams = {"train": Upstream("train", settings.train_url, stream_limits)}
    readiness = Readiness(upstreams)

    @contextlib.asynccontextmanager
    async def lifespan(_app: FastAPI) -> AsyncIterator[None]:
        pools = [*upstreams.values(), *streams.values()]
        with _serving_metrics(settings):
            for pool in pools:
                pool.open()
            try:
                async with refreshing_keys(verifier, settings), background(documentation.keep_fresh()):
                    yield
            finally:
                for pool in pools:
                    pool.close()

    app = create_service(
        title="Rayonnage",
        description="Predicts the product type code of a product from its title, description and photo.",
        lifespan=lifespan,
        routers=[own_router(readiness)],
        readiness={"keys": verifier.why_not_ready},
        reported={service: functools.partial(readiness.why_not_ready, service) for service in upstreams},
        max_body_bytes=None,  # each public route has its own limit
        quiet=PROBES,  # what services poll from each other, clients request here
        metrics_route=False,  # not public: served on a port of their own
    )
    documentation = Documentation(app.openapi, upstreams, PUBLIC_ROUTES)
    app.openapi = documentation.document  # type: ignore[method-assign]
    app.state.verifier = verifier
    forwarded = forwarding_routes(
        settings, upstreams, streams, rate_limiter=prediction_rate_limiter(settings), verifier=verifier
    )
    app.router.routes[0:0] = [*forwarded, *docs_routes()]
    app.add_middleware(ForwardingPath, routes=forwarded)
    return app


def _pool_limits(settings: GatewaySettings) -> PoolLimits:
    return PoolLimits(
        connections=settings.gateway_connections,
        waiting=settings.gateway_waiting,
        wait_s=settings.gateway_wait_s,
        connect_timeout_s=settings.gateway_connect_timeout_s,
        keep_alive_s=settings.gateway_keep_alive_s,
    )


@contextlib.contextmanager
def _serving_metrics(settings: GatewaySettings) -> Iterator[None]:
    with metrics_server(settings.gateway_metrics_host, settings.gateway_metrics_port) as port:
        log.info("gateway.metrics.started", port=port)
        yield
