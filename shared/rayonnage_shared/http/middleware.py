"""Middleware of every request: request id, body limit, access log and trace span."""

from __future__ import annotations

import re
import time
from collections.abc import Collection

import structlog
from starlette.exceptions import HTTPException
from starlette.types import ASGIApp, Message, Receive, Scope, Send
from ulid import ULID

from rayonnage_shared.core.errors import BodyTooLarge, RayonnageError
from rayonnage_shared.http.problems import CLIENT_DISCONNECTED_STATUS, problem_response
from rayonnage_shared.observability.http_metrics import ROUTE
from rayonnage_shared.observability.tracing import TRACEPARENT, trace_id_of, tracing

log = structlog.get_logger()

SPAN = "span"  # key in a request's state while tracing is on
POLLS = ("/internal/revocations", "/.well-known/jwks.json", "/openapi.json")
"""Routes that the platform's own processes poll from each other, beside the probes."""
_REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{8,64}")


class RequestContext:
    """Pure ASGI middleware: request id, body limit, access log, and a problem document for unhandled errors.

    Requests to the paths `quiet` leave no log line and no trace, even if they answer 503. FastAPI's own body limit is
    not used: it answers with plain text when Content-Length is too large.
    """

    def __init__(self, app: ASGIApp, max_body_bytes: int | None = None, quiet: Collection[str] = ()) -> None:
        self.app = app
        self._max_body_bytes = max_body_bytes
        self._quiet = frozenset(quiet)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        started = time.perf_counter()
        request_id = request_id_from(_header(scope, b"x-request-id")) or str(ULID())
        state = scope.setdefault("state", {})
        state["request_id"] = request_id
        quiet = state["quiet"] = scope["path"] in self._quiet
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
                await problem_response(request_id, BodyTooLarge(too_large(limit)))(scope, receive, send_with_id)
            else:
                await self.app(scope, receive if limit is None else _limited(receive, limit), send_with_id)
        except Exception:
            log.exception("http.request.failed", path=scope["path"])
            if status:
                raise
            await problem_response(request_id, unexpected())(scope, receive, send_with_id)
        finally:
            if not quiet:
                log.info(
                    "http.request",
                    method=scope["method"],
                    path=scope["path"],
                    status=status or CLIENT_DISCONNECTED_STATUS,
                    duration_ms=round((time.perf_counter() - started) * 1000, 2),
                    user=state.get("user"),
                )
            if traces is not None:
                traces.end_server_span(span, scope["method"], state.get(ROUTE), status or CLIENT_DISCONNECTED_STATUS)
            structlog.contextvars.unbind_contextvars(*about)


class HeadAsGet:
    """Pure ASGI middleware: routes answer HEAD as they answer GET (RFC 9110, section 9.3.2); FastAPI's answer 405.

    The server sends no body in response to HEAD, whatever the application gives it.
    """

    def __init__(self, app: ASGIApp) -> None:
        self.app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        is_head = scope["type"] == "http" and scope["method"] == "HEAD"
        await self.app({**scope, "method": "GET"} if is_head else scope, receive, send)


def request_id_from(header: bytes | None) -> str | None:
    """Return the request id of an `X-Request-Id` header, or None if it is absent or could not stand in a log line."""
    text = "" if header is None else header.decode("latin-1")
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
    """Return a `receive` that enforces the limit on bodies without Content-Length."""
    received = 0

    async def counting() -> Message:
        nonlocal received
        message = await receive()
        received += len(message.get("body", b""))
        if received > limit:
            raise HTTPException(413, too_large(limit))  # FastAPI would turn any other error into a 400
        return message

    return counting


def too_large(limit: int) -> str:
    """Return the sentence that refuses a body of more bytes."""
    return f"The request body may have at most {limit:,} bytes."


def unexpected() -> RayonnageError:
    """Return the error that stands for one that nobody foresaw."""
    return RayonnageError("The error was logged with this request id; trying again may help.")
