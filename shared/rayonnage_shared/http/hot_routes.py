"""Answers a few POST routes ahead of FastAPI's middleware and router, which cost more than a small request's work.

The routes stay declared in FastAPI, for the API document and for every other method. What a caller sees must not
differ: request id, problem documents, log line, metrics and trace are those of `RequestContext`; a test compares both.
"""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import structlog
from starlette.types import ASGIApp, Receive, Scope, Send
from ulid import ULID

from rayonnage_shared.core.errors import PROBLEM_MEDIA_TYPE, BodyTooLarge, RayonnageError
from rayonnage_shared.http.middleware import request_id_from, too_large, unexpected
from rayonnage_shared.http.problems import CLIENT_DISCONNECTED_STATUS, problem_of
from rayonnage_shared.observability.http_metrics import RequestMetrics
from rayonnage_shared.observability.tracing import TRACEPARENT, trace_id_of, tracing

if TYPE_CHECKING:
    from opentelemetry.trace import Span

log = structlog.get_logger()

METHOD = "POST"
BODY_WITHIN_S = 30.0
CHUNK_WITHIN_S = 5.0


class BodyTimeout(RayonnageError):
    status, code, title = 408, "request_timeout", "The request body did not arrive in time"


class ClientDisconnected(Exception):
    """The client closed the connection."""


@dataclass(slots=True)
class HotRequest:
    """A request of a hot route. The handler notes the `user`, for the log line."""

    headers: Mapping[bytes, bytes]
    """By lower-case name; of a header that was sent twice, the first."""
    request_id: str
    received_at: float
    """By `time.perf_counter`."""
    span: Span | None
    _receive: Receive
    _max_body_bytes: int
    user: str | None = None

    @property
    def announced_bytes(self) -> int:
        """The length of the body by Content-Length; 0 without it."""
        value = self.headers.get(b"content-length", b"")
        return int(value) if value.isdigit() else 0

    async def body(self, reserve: Callable[[int], None]) -> bytes:
        """Return the body. `reserve` is called with the bytes of each chunk before it is kept, and may refuse.

        Raises BodyTooLarge, BodyTimeout or ClientDisconnected.
        """
        message = await self._receive()
        chunk: bytes = message.get("body", b"")
        if message["type"] == "http.request" and not message.get("more_body"):  # nearly all: one chunk
            self._check(len(chunk), reserve, len(chunk))
            return chunk
        return await self._in_chunks(message, reserve)

    async def disconnected(self) -> None:
        """Return when the client has left. To be awaited after the body, in a task that is cancelled later."""
        while (await self._receive())["type"] != "http.disconnect":
            pass

    async def _in_chunks(self, message: Mapping[str, Any], reserve: Callable[[int], None]) -> bytes:
        chunks: list[bytes] = []
        total, deadline = 0, time.monotonic() + BODY_WITHIN_S
        while message["type"] == "http.request":
            chunk: bytes = message.get("body", b"")
            total += len(chunk)
            self._check(total, reserve, len(chunk))
            chunks.append(chunk)
            if not message.get("more_body"):
                return b"".join(chunks)
            try:
                async with asyncio.timeout(min(CHUNK_WITHIN_S, deadline - time.monotonic())):
                    message = await self._receive()
            except TimeoutError as error:
                raise BodyTimeout("The body arrived too slowly; send it again.") from error
        raise ClientDisconnected

    def _check(self, total: int, reserve: Callable[[int], None], more: int) -> None:
        if total > self._max_body_bytes:
            raise BodyTooLarge(too_large(self._max_body_bytes))
        reserve(more)


@dataclass(frozen=True, slots=True)
class HotAnswer:
    """A JSON body, and headers besides those of every answer."""

    body: bytes
    headers: tuple[tuple[bytes, bytes], ...] = ()
    status: int = 200
    media_type: bytes = b"application/json"


Handler = Callable[[HotRequest], Awaitable[HotAnswer]]


class RequestLog:
    """What a request leaves behind: a log line, metrics and the end of its span, as `RequestContext` does."""

    def __init__(self) -> None:
        self._metrics = RequestMetrics()

    def finished(  # noqa: PLR0917 - the fields of the log line
        self,
        method: str,
        path: str,
        route: str,
        status: int,
        received_at: float,
        request_id: str,
        user: str | None,
        span: Span | None,
    ) -> None:
        """Note a request that has ended; `route` is the path's template, `received_at` by `time.perf_counter`."""
        seconds = time.perf_counter() - received_at
        self._metrics.record(method, str(status), route, seconds)
        about = {} if span is None or (trace_id := trace_id_of(span)) is None else {"trace_id": trace_id}
        log.info(
            "http.request",
            request_id=request_id,
            **about,
            method=method,
            path=path,
            status=status,
            duration_ms=round(seconds * 1000, 2),
            user=user,
        )
        if span is not None and (traces := tracing()) is not None:
            traces.end_server_span(span, method, route, status)


class HotRoutes:
    """Pure ASGI middleware: calls a handler for each POST to one of `routes`, and the application for the rest."""

    def __init__(self, app: ASGIApp, routes: Mapping[str, Handler], max_body_bytes: int) -> None:
        self._app = app
        self._routes = routes
        self._max_body_bytes = max_body_bytes
        self._log = RequestLog()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        handler = self._routes.get(scope["path"]) if scope["type"] == "http" and scope["method"] == METHOD else None
        if handler is None:
            await self._app(scope, receive, send)
            return
        headers = dict(reversed(scope["headers"]))
        request_id = request_id_from(headers.get(b"x-request-id")) or str(ULID())
        traces = tracing()
        span = None if traces is None else traces.server_span(METHOD, headers.get(TRACEPARENT), request_id)
        request = HotRequest(headers, request_id, time.perf_counter(), span, receive, self._max_body_bytes)
        status = CLIENT_DISCONNECTED_STATUS
        try:
            answer = await self._answer(handler, request)
            status = answer.status
            await send_answer(answer, request_id, send)
        except ClientDisconnected:
            pass  # nobody reads an answer; the log line and the metrics say so
        finally:
            self._log.finished(
                METHOD, scope["path"], scope["path"], status, request.received_at, request_id, request.user, span
            )

    async def _answer(self, handler: Handler, request: HotRequest) -> HotAnswer:
        try:
            if request.announced_bytes > self._max_body_bytes:
                raise BodyTooLarge(too_large(self._max_body_bytes))
            return await handler(request)
        except ClientDisconnected:
            raise
        except RayonnageError as error:
            if error.status >= 500:
                detail = {"code": error.code, "detail": error.detail}
                log.warning("http.request.unavailable", request_id=request.request_id, **detail)
            return problem_answer(request.request_id, error)
        except Exception:
            log.exception("http.request.failed", request_id=request.request_id)
            return problem_answer(request.request_id, unexpected())


async def send_answer(answer: HotAnswer, request_id: str, send: Send) -> None:
    """Send a whole answer, with the request id."""
    headers = [
        (b"content-length", b"%d" % len(answer.body)),
        (b"content-type", answer.media_type),
        *answer.headers,
        (b"x-request-id", request_id.encode("ascii")),
    ]
    await send({"type": "http.response.start", "status": answer.status, "headers": headers})
    await send({"type": "http.response.body", "body": answer.body})


def problem_answer(request_id: str, error: RayonnageError) -> HotAnswer:
    """Return the problem document of `error` as an answer."""
    headers = tuple((name.lower().encode(), value.encode("latin-1")) for name, value in error.headers.items())
    body = json.dumps(problem_of(request_id, error), ensure_ascii=False).encode()
    return HotAnswer(body, headers, error.status, PROBLEM_MEDIA_TYPE.encode())
