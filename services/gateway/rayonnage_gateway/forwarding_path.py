"""Calls the forwarders ahead of FastAPI's middleware and router, which took a third of a request's CPU time.

`python -m tests.bench.gateway --profile` measures it. The forwarders stay routes of FastAPI, which answers every other
method and path. What a caller sees must not differ; a test compares both.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from re import Pattern

import structlog
from starlette.routing import Route
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from ulid import ULID

from rayonnage_shared.core.errors import RayonnageError
from rayonnage_shared.http.hot_routes import RequestLog, problem_answer, send_answer
from rayonnage_shared.http.middleware import SPAN, request_id_from, unexpected
from rayonnage_shared.http.problems import CLIENT_DISCONNECTED_STATUS
from rayonnage_shared.observability.tracing import TRACEPARENT, trace_id_of, tracing

log = structlog.get_logger()


class ForwardingPath:
    """Pure ASGI middleware: request id, problem documents, log line, metrics and trace of forwarded requests."""

    def __init__(self, app: ASGIApp, routes: Sequence[Route]) -> None:
        self._app = app
        self._plain: dict[tuple[str, str], Route] = {}
        self._templates: list[tuple[Pattern[str], Route]] = []
        self._log = RequestLog()
        for route in routes:
            if route.param_convertors:
                self._templates.append((route.path_regex, route))
            for method in () if route.param_convertors else route.methods or ():
                self._plain[method, route.path] = route

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        route = self._route(scope) if scope["type"] == "http" else None
        if route is None:
            await self._app(scope, receive, send)
            return
        received_at = time.perf_counter()
        wanted_id = traceparent = None
        for name, value in scope["headers"]:
            if name == b"x-request-id" and wanted_id is None:
                wanted_id = value
            elif name == TRACEPARENT:
                traceparent = value
        request_id = request_id_from(wanted_id) or str(ULID())
        state = scope.setdefault("state", {})
        state["request_id"] = request_id
        method: str = scope["method"]
        traces = tracing()
        span = None
        about = {"request_id": request_id}
        if traces is not None:
            span = state[SPAN] = traces.server_span(method, traceparent, request_id)
            if (trace_id := trace_id_of(span)) is not None:
                about["trace_id"] = trace_id
        structlog.contextvars.bind_contextvars(**about)
        status = 0

        async def send_with_id(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                message["headers"] = [*message["headers"], (b"x-request-id", request_id.encode("ascii"))]
            await send(message)

        try:
            await route.app(scope, receive, send_with_id)
        except RayonnageError as error:
            if status:
                raise
            if error.status >= 500:
                log.warning("http.request.unavailable", code=error.code, detail=error.detail)
            status = error.status
            await send_answer(problem_answer(request_id, error), request_id, send)
        except Exception:
            log.exception("http.request.failed", path=scope["path"])
            if status:
                raise
            status = unexpected().status
            await send_answer(problem_answer(request_id, unexpected()), request_id, send)
        finally:
            ended = status or CLIENT_DISCONNECTED_STATUS
            user = state.get("user")
            self._log.finished(method, scope["path"], route.path, ended, received_at, request_id, user, span)
            structlog.contextvars.unbind_contextvars(*about)

    def _route(self, scope: Scope) -> Route | None:
        method, path = scope["method"], scope["path"]
        route = self._plain.get((method, path))
        if route is not None:
            return route
        for pattern, candidate in self._templates:
            if method in (candidate.methods or ()) and pattern.match(path):
                return candidate
        return None
