"""How every HTTP service is built: one middleware, one error form, health, metrics."""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping
from contextlib import AbstractAsyncContextManager
from typing import Any

import structlog
from anyio import to_thread
from fastapi import APIRouter, FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.openapi.utils import get_openapi
from prometheus_client.exposition import CONTENT_TYPE_LATEST
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from ulid import ULID

from rayonnage_shared.contracts.platform import Health, Problem
from rayonnage_shared.errors import PROBLEM_MEDIA_TYPE, BodyTooLarge, DependencyDown, RayonnageError, problem_document
from rayonnage_shared.http_metrics import ROUTE, add_http_metrics
from rayonnage_shared.tracing import TRACEPARENT, stop_tracing, trace_id_of, tracing
from rayonnage_shared.worker_metrics import exposition
from rayonnage_shared.workers import Worker, this_worker

log = structlog.get_logger()

ReadinessCheck = Callable[[], Awaitable[str | None]]
"""Returns None when the dependency is fine, else one sentence that says what is wrong."""

Lifespan = Callable[[FastAPI], AbstractAsyncContextManager[None]]

CALLER_LEFT_STATUS = 499  # the caller left before an answer began
SPAN = "span"  # in a request's state, where traces are wanted
_REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{8,64}")
_CODES_BY_STATUS = {
    400: "bad_request",
    401: "not_authenticated",
    403: "not_allowed",
    404: "not_found",
    405: "method_not_allowed",
    413: "body_too_large",
    415: "unsupported_media_type",
    429: "too_many_requests",
}


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
    app_class: Callable[..., FastAPI] = FastAPI,
) -> FastAPI:
    """Return an application with request ids, access log, problem documents, health routes and metrics.

    `readiness` names what `/health/ready` needs and `reported` what it only tells about; `max_body_bytes` of None
    leaves the limit to each route; `app_class` lets the gateway serve its documentation offline.
    """
    lifespan = _tracing(lifespan)
    if (worker := this_worker()) is not None:
        lifespan = _telling(lifespan, worker, readiness)
        readiness = {**readiness, "workers": worker.why_others_are_not_ready}
    extra = {} if app_class is not FastAPI else {"docs_url": None, "redoc_url": None}
    app = app_class(
        title=title,
        description=description,
        version="0.1.0",
        lifespan=lifespan,
        responses=problems(),
        # FastAPI's own OpenTelemetry would follow OTEL_* variables by itself, and asks for them with every request.
        telemetry={"auto_configure": False, "tracing": False, "metrics": False, "logs": False},
        **extra,
    )
    add_http_metrics(app)
    app.add_middleware(RequestContext, max_body_bytes=max_body_bytes)
    app.add_exception_handler(RayonnageError, _render_domain_error)
    app.add_exception_handler(RequestValidationError, _render_validation_error)
    app.add_exception_handler(HTTPException, _render_http_error)
    for router in routers:
        app.include_router(router)
    app.include_router(_health_router(readiness, reported or {}))
    if metrics_route:
        app.add_route("/metrics", metrics, include_in_schema=False)
    app.openapi = lambda: _openapi_with_problems(app)  # type: ignore[method-assign]
    return app


def problems(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """Return the `responses` argument of a route that may answer with these statuses; 422 is always among them."""
    return {status: {"model": Problem} for status in sorted({422, *statuses})}


def problem_response(request_id: str, error: RayonnageError) -> Response:
    """Return the answer that every service gives for this error."""
    document = problem_document(
        status=error.status,
        code=error.code,
        title=error.title,
        detail=error.detail,
        request_id=request_id,
        **error.extra,
    )
    return Response(
        json.dumps(document, ensure_ascii=False).encode(),
        status_code=error.status,
        media_type=PROBLEM_MEDIA_TYPE,
        headers=error.headers,
    )


class RequestContext:
    """Pure ASGI middleware: request id, body limit, access log, and a problem document for what nobody caught.

    The limit is here and not FastAPI's own, which answers with plain text what Content-Length gives away.
    """

    def __init__(self, app: ASGIApp, max_body_bytes: int | None = None) -> None:
        self.app = app
        self._max_body_bytes = max_body_bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        started = time.perf_counter()
        request_id = _incoming_request_id(scope) or str(ULID())
        state = scope.setdefault("state", {})
        state["request_id"] = request_id
        quiet = scope["path"].startswith(("/health/", "/metrics", "/internal/"))
        traces = None if quiet else tracing()
        trace_id = None
        if traces is not None:
            span = state[SPAN] = traces.server_span(scope["method"], _header(scope, TRACEPARENT), request_id)
            trace_id = trace_id_of(span)
        about = {"request_id": request_id} if trace_id is None else {"request_id": request_id, "trace_id": trace_id}
        structlog.contextvars.bind_contextvars(**about)
        status = 0

        async def send_with_id(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                headers = [header for header in message.get("headers", ()) if header[0] != b"x-request-id"]
                headers.append((b"x-request-id", request_id.encode("ascii")))
                message["headers"] = headers
            await send(message)

        try:
            limit = self._max_body_bytes
            if limit is not None and _announced_bytes(scope) > limit:
                await problem_response(request_id, BodyTooLarge(_too_large(limit)))(scope, receive, send_with_id)
            else:
                await self.app(scope, receive if limit is None else _limited(receive, limit), send_with_id)
        except Exception:
            log.exception("http.request.failed", path=scope["path"])
            if status:
                raise
            await problem_response(request_id, _unexpected())(scope, receive, send_with_id)
        finally:
            if not quiet:
                log.info(
                    "http.request",
                    method=scope["method"],
                    path=scope["path"],
                    status=status or CALLER_LEFT_STATUS,
                    duration_ms=round((time.perf_counter() - started) * 1000, 2),
                    user=state.get("user"),
                )
            if traces is not None:
                traces.end_server_span(span, scope["method"], state.get(ROUTE), status or CALLER_LEFT_STATUS)
            structlog.contextvars.unbind_contextvars(*about)


async def metrics(_request: Request) -> Response:
    """Return the service's metrics in Prometheus' text form."""
    text = exposition() if this_worker() is None else await to_thread.run_sync(exposition)
    return Response(text, headers={"Content-Type": CONTENT_TYPE_LATEST})


def _incoming_request_id(scope: Scope) -> str | None:
    value = _header(scope, b"x-request-id")
    if value is None:
        return None
    text = value.decode("latin-1")
    return text if _REQUEST_ID.fullmatch(text) else None


def _header(scope: Scope, wanted: bytes) -> bytes | None:
    for name, value in scope["headers"]:
        if name == wanted:
            return bytes(value)
    return None


def _announced_bytes(scope: Scope) -> int:
    for name, value in scope["headers"]:
        if name == b"content-length":
            return int(value) if value.isdigit() else 0
    return 0


def _limited(receive: Receive, limit: int) -> Receive:
    """Return `receive` that counts what comes, for bodies that announce no length."""
    received = 0

    async def counting() -> Message:
        nonlocal received
        message = await receive()
        received += len(message.get("body", b""))
        if received > limit:
            raise HTTPException(413, _too_large(limit))  # FastAPI turns any other error into a 400 here
        return message

    return counting


def _too_large(limit: int) -> str:
    return f"The body may have {limit:,} bytes at most here."


def _unexpected() -> RayonnageError:
    return RayonnageError("The error is in the log under this request id; trying again may help.")


def request_id_of(request: Request) -> str:
    """Return the id under which this request stands in every log line."""
    return str(request.state.request_id)


async def _render_domain_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, RayonnageError)
    if error.status >= 500:
        log.warning("http.request.unavailable", code=error.code, detail=error.detail)
    return problem_response(request_id_of(request), error)


async def _render_validation_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    errors = [
        {"field": ".".join(str(part) for part in item["loc"]), "message": item["msg"]} for item in error.errors()[:20]
    ]
    first = errors[0] if errors else {"field": "body", "message": "not valid"}
    document = problem_document(
        status=422,
        code="invalid_input",
        title="The request is not valid",
        detail=f"{first['field']}: {first['message']}",
        request_id=request_id_of(request),
        errors=errors,
    )
    return _problem(document, {})


async def _render_http_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    document = problem_document(
        status=error.status_code,
        code=_CODES_BY_STATUS.get(error.status_code, "http_error"),
        title=str(error.detail),
        detail=str(error.detail),
        request_id=request_id_of(request),
    )
    return _problem(document, error.headers or {})


def _problem(document: dict[str, Any], headers: Mapping[str, str]) -> Response:
    return Response(
        json.dumps(document, ensure_ascii=False).encode(),
        status_code=document["status"],
        media_type=PROBLEM_MEDIA_TYPE,
        headers=dict(headers),
    )


def _health_router(readiness: Mapping[str, ReadinessCheck], reported: Mapping[str, ReadinessCheck]) -> APIRouter:
    router = APIRouter(tags=["health"])

    @router.get("/health/live", response_model=Health)
    async def live() -> Health:
        """Say that the process answers."""
        return Health(status="ok", dependencies={})

    @router.get("/health/ready", response_model=Health, responses=problems(503))
    async def ready() -> Health:
        """Say whether this service can do its work, and if not, which dependency is missing."""
        found = await _ask_all(readiness)
        missing = {name: reason for name, reason in found.items() if reason is not None}
        if missing:
            detail = "; ".join(f"{name}: {reason}" for name, reason in missing.items())
            raise DependencyDown(detail, dependencies=missing)
        told = {name: reason or "ok" for name, reason in (await _ask_all(reported)).items()}
        status = "ok" if all(reason == "ok" for reason in told.values()) else "degraded"
        return Health(status=status, dependencies=dict.fromkeys(found, "ok") | told)

    return router


def _tracing(lifespan: Lifespan) -> Lifespan:
    """Return `lifespan` with the traces sent at its end."""

    @contextlib.asynccontextmanager
    async def longer(app: FastAPI) -> AsyncIterator[None]:
        async with lifespan(app):
            yield
        if tracing() is not None:
            await to_thread.run_sync(stop_tracing)

    return longer


def _telling(lifespan: Lifespan, worker: Worker, readiness: Mapping[str, ReadinessCheck]) -> Lifespan:
    """Return `lifespan` with the other workers told, while it lasts, whether this one is ready."""

    async def why_not_ready() -> str | None:
        found = await _ask_all(readiness)
        return "; ".join(f"{name}: {reason}" for name, reason in found.items() if reason is not None) or None

    @contextlib.asynccontextmanager
    async def longer(app: FastAPI) -> AsyncIterator[None]:
        async with lifespan(app):
            task = asyncio.create_task(worker.tell(why_not_ready))
            try:
                yield
            finally:
                task.cancel()
                with contextlib.suppress(asyncio.CancelledError):
                    await task

    return longer


async def _ask_all(checks: Mapping[str, ReadinessCheck]) -> dict[str, str | None]:
    """Return what each check says; all are asked at once, since whoever probes waits for seconds only."""
    return dict(zip(checks, await asyncio.gather(*(check() for check in checks.values())), strict=True))


def _openapi_with_problems(app: FastAPI) -> dict[str, Any]:
    """Return the schema with errors under `application/problem+json`, where they really are."""
    if app.openapi_schema is None:
        schema = get_openapi(title=app.title, version=app.version, description=app.description, routes=app.routes)
        for path in schema.get("paths", {}).values():
            for operation in path.values():
                _move_problems(operation.get("responses", {}))
        app.openapi_schema = schema
    return app.openapi_schema


def _move_problems(responses: dict[str, Any]) -> None:
    for status, response in responses.items():
        content = response.get("content", {})
        if status >= "400" and "application/json" in content:
            response["content"] = {PROBLEM_MEDIA_TYPE: content["application/json"]}
