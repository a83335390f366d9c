"""Build an HTTP service: middleware, problem documents, health routes and metrics."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Iterable, Mapping
from contextlib import AbstractAsyncContextManager

import structlog
from anyio import to_thread
from fastapi import APIRouter, FastAPI, Request, Response
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest

from rayonnage_shared.core.errors import DependencyDown
from rayonnage_shared.core.version import VERSION
from rayonnage_shared.http.middleware import POLLS, HeadAsGet, RequestContext
from rayonnage_shared.http.problems import add_problem_documents, problems
from rayonnage_shared.http.schemas import Health
from rayonnage_shared.observability.http_metrics import PROBES, add_http_metrics
from rayonnage_shared.observability.tracing import stop_tracing, tracing

log = structlog.get_logger()

ReadinessCheck = Callable[[], Awaitable[str | None]]
"""Return None if the dependency works, else one sentence that says what is wrong."""

Lifespan = Callable[[FastAPI], AbstractAsyncContextManager[None]]


def create_service(
    *,
    title: str,
    description: str,
    lifespan: Lifespan,
    routers: Iterable[APIRouter],
    readiness: Mapping[str, ReadinessCheck],
    reported: Mapping[str, ReadinessCheck] | None = None,
    max_body_bytes: int | None,
    metrics_route: bool = True,
    quiet: Collection[str] = (*PROBES, *POLLS),
) -> FastAPI:
    """Return an application with request ids, access log, problem documents, health routes and metrics.

    `/health/ready` requires the checks in `readiness` and only reports those in `reported`. With `max_body_bytes` None
    each route sets its own limit. Requests to the paths `quiet` are not logged. FastAPI's documentation pages are
    off: they load from a CDN.
    """
    app = FastAPI(
        title=title,
        description=description,
        version=VERSION,
        lifespan=_tracing(lifespan),
        responses=problems(),
        # FastAPI's own OpenTelemetry support would read OTEL_* variables with every request.
        telemetry={"auto_configure": False, "tracing": False, "metrics": False, "logs": False},
        docs_url=None,
        redoc_url=None,
    )
    app.add_middleware(HeadAsGet)
    add_http_metrics(app)
    app.add_middleware(RequestContext, max_body_bytes=max_body_bytes, quiet=quiet)
    add_problem_documents(app)
    for router in routers:
        app.include_router(router)
    app.include_router(_health_router(readiness, reported or {}))
    if metrics_route:
        app.add_route("/metrics", metrics, include_in_schema=False)
    return app


async def metrics(_request: Request) -> Response:
    """Return the metrics in the Prometheus text format."""
    return Response(generate_latest(), headers={"Content-Type": CONTENT_TYPE_LATEST})


def _health_router(readiness: Mapping[str, ReadinessCheck], reported: Mapping[str, ReadinessCheck]) -> APIRouter:
    router = APIRouter(tags=["health"])

    @router.get("/health/live", response_model=Health)
    async def live() -> Health:
        """Answer 200 while the process runs."""
        return Health(status="ok", dependencies={})

    @router.get("/health/ready", response_model=Health, responses=problems(503))
    async def ready() -> Health:
        """Answer 200 if the service is ready, else 503 with the failing checks."""
        required = await _ask_all(readiness)
        missing = {name: reason for name, reason in required.items() if reason is not None}
        if missing:
            detail = "; ".join(f"{name}: {reason}" for name, reason in missing.items())
            raise DependencyDown(detail, dependencies=missing)
        states = {name: reason or "ok" for name, reason in (await _ask_all(reported)).items()}
        status = "ok" if all(reason == "ok" for reason in states.values()) else "degraded"
        return Health(status=status, dependencies=dict.fromkeys(required, "ok") | states)

    return router


def _tracing(lifespan: Lifespan) -> Lifespan:
    """Return `lifespan`, flushing traces at its end."""

    @contextlib.asynccontextmanager
    async def longer(app: FastAPI) -> AsyncIterator[None]:
        async with lifespan(app):
            yield
        if tracing() is not None:
            await to_thread.run_sync(stop_tracing)

    return longer


async def _ask_all(checks: Mapping[str, ReadinessCheck]) -> dict[str, str | None]:
    """Run all checks at the same time, since probes have short timeouts, and return their results."""
    return dict(zip(checks, await asyncio.gather(*(check() for check in checks.values())), strict=True))
