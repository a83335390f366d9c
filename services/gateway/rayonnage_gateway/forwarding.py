"""One public path: verifies the caller, then passes request and answer through without reading them."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Literal

import structlog
from fastapi import Request
from fastapi.security.utils import get_authorization_scheme_param
from starlette.types import Receive, Scope, Send

from rayonnage_gateway.connection import Connection, UpstreamClosed, UpstreamGarbled, UpstreamSilent
from rayonnage_gateway.headers import CHUNKED, answer_headers, body_length, request_head
from rayonnage_gateway.upstream import Upstream
from rayonnage_shared.auth.dependencies import current_admin, current_user
from rayonnage_shared.core.errors import BodyTooLarge, DependencyDown, RayonnageError
from rayonnage_shared.http.middleware import CALLER_LEFT_STATUS, SPAN
from rayonnage_shared.observability.tracing import traceparent_of, tracing

log = structlog.get_logger()

Access = Literal["public", "user", "admin"]
_SAFE_METHODS = frozenset({"GET", "HEAD"})


class UpstreamTimeout(RayonnageError):
    status, code, title = 504, "upstream_timeout", "A part of the platform took too long"


class UpstreamAnswerUnusable(RayonnageError):
    status, code, title = 502, "bad_upstream_answer", "A part of the platform gave an answer that cannot be passed on"


class CallerTooSlow(RayonnageError):
    status, code, title = 408, "request_timeout", "The request body did not arrive in time"


class CallerLeft(Exception):
    """Whoever asked has closed the connection."""


@dataclass(frozen=True, slots=True)
class Operation:
    """One method of one public path: who may call it, and how it is passed on."""

    upstream: Upstream
    access: Access
    max_body_bytes: int
    timeout_s: float
    idle_timeout_s: float
    caller_timeout_s: float
    admit: Callable[[Request], Awaitable[None]] | None = None
    replayable: bool = False
    finishes_alone: bool = False


class ReplayBudget:
    """How much may be held of bodies that are kept for a replay, all requests together."""

    def __init__(self, limit: int) -> None:
        self.left = limit

    def take(self, count: int) -> bool:
        """Return whether `count` bytes may be held, and if so, count them."""
        if count > self.left:
            return False
        self.left -= count
        return True

    def give_back(self, count: int) -> None:
        """Undo a `take`."""
        self.left += count


class Forwarding:
    """ASGI application of one path, with an operation for each method."""

    def __init__(self, operations: Mapping[str, Operation], held: ReplayBudget) -> None:
        self._operations = operations
        self._held = held

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        method: str = scope["method"]
        operation = self._operations["GET" if method == "HEAD" else method]
        request = Request(scope)
        await _authorise(request, operation.access)
        if operation.admit is not None:
            await operation.admit(request)
        length = body_length(scope["headers"])
        if length > operation.max_body_bytes:
            raise _too_large(operation.max_body_bytes)
        call = _Call(operation, method, receive, send)
        try:
            traces, parent = tracing(), scope["state"].get(SPAN)
            if traces is None or parent is None:
                await self._pass_on(call, _head(scope, operation, length), receive, length)
                return
            span = traces.client_span(parent, method, operation.upstream.service)
            try:
                head = _head(scope, operation, length, traceparent_of(span))
                await self._pass_on(call, head, receive, length)
            finally:
                traces.end(span, call.status)
        except CallerLeft:
            # Nobody reads this, but metrics and the access log see that it was the caller who left.
            await send({"type": "http.response.start", "status": CALLER_LEFT_STATUS, "headers": []})

    async def _pass_on(self, call: _Call, head: bytes, receive: Receive, length: int) -> None:
        operation = call.operation
        if length == 0 and call.method in _SAFE_METHODS:
            await call.held(head, b"")
        elif operation.replayable and length != CHUNKED and self._held.take(length):
            try:
                await call.held(head, await _whole_body(receive, operation, length))
            finally:
                self._held.give_back(length)
        else:
            await call.streamed(head, length)


class _Call:
    """One request on its way to a service and the answer on its way back."""

    def __init__(self, operation: Operation, method: str, receive: Receive, send: Send) -> None:
        self.operation = operation
        self.method = method
        self.status = 0  # of the answer, once it has begun
        self._upstream = operation.upstream
        self._receive = receive
        self._send = send
        self._connection: Connection | None = None
        self._caller_left = False
        self._answer_begun = False

    async def held(self, head: bytes, body: bytes) -> None:
        """Send a request that is at hand whole; once more if the connection dies before a byte of the answer."""
        watcher = asyncio.ensure_future(self._watch())
        try:
            with _translated(self._upstream.service):
                try:
                    await self._exchange(head, body, fresh=False)
                except UpstreamClosed:
                    if self._answer_begun:
                        raise
                    log.info("gateway.replayed", service=self._upstream.service)
                    await self._exchange(head, body, fresh=True)
        finally:
            watcher.cancel()

    async def _exchange(self, head: bytes, body: bytes, *, fresh: bool) -> None:
        connection = await self._acquire(fresh=fresh)
        try:
            connection.start(self.method, head, body)
            connection.expect_within(self.operation.timeout_s)
            try:
                await connection.wait_for_head()
            except UpstreamClosed:
                self._answer_begun = connection.answer_begun
                self._upstream.avoid(connection)
                raise
            self._answer_begun = True
            await self._relay(connection)
        finally:
            self._connection = None
            self._upstream.release(connection)

    async def streamed(self, head: bytes, length: int) -> None:
        """Pass the body on as it comes; never sent twice."""
        with _translated(self._upstream.service):
            connection = await self._acquire(checked=True)
            pump: asyncio.Future[None] | None = None
            try:
                connection.start(self.method, head, whole=False)
                pump = asyncio.ensure_future(self._pump(connection, length))
                await connection.wait_for_head()
                if not connection.request_sent:
                    pump.cancel()  # the answer came early; the rest of the body is of no use
                await self._relay(connection)
            finally:
                if pump is not None:
                    pump.cancel()
                self._connection = None
                self._upstream.release(connection)

    async def _acquire(self, *, fresh: bool = False, checked: bool = False) -> Connection:
        connection = await self._upstream.acquire(fresh=fresh, checked=checked)
        self._connection = connection
        if self._caller_left:
            self._upstream.release(connection)
            raise CallerLeft
        return connection

    async def _pump(self, connection: Connection, length: int) -> None:
        operation = self.operation
        sent = 0
        more = length != 0
        try:
            while more:
                data, more = await _next_part(self._receive, operation.caller_timeout_s)
                sent += len(data)
                if sent > operation.max_body_bytes:
                    raise _too_large(operation.max_body_bytes)
                if data:
                    framed = b"%x\r\n%b\r\n" % (len(data), data) if length == CHUNKED else data
                    await connection.write(framed, operation.idle_timeout_s)
            if length == CHUNKED:
                await connection.write(b"0\r\n\r\n", operation.idle_timeout_s)
        except Exception as error:  # noqa: BLE001 - whoever waits for the answer must hear of it
            connection.fail(error)
            return
        connection.request_sent = True
        if not connection.head_complete:
            connection.expect_within(operation.timeout_s)
        await self._watch()

    async def _watch(self) -> None:
        """Wait until the caller is gone, then let the exchange go too, unless it is to finish alone."""
        while (await self._receive())["type"] != "http.disconnect":
            pass
        self._caller_left = True
        if self._connection is not None and not self.operation.finishes_alone:
            self._connection.fail(CallerLeft())

    async def _relay(self, connection: Connection) -> None:
        operation = self.operation
        connection.deadline = float("inf")
        self.status = connection.status
        await self._send(
            {
                "type": "http.response.start",
                "status": connection.status,
                "headers": answer_headers(connection.headers),
            }
        )
        more = True
        while more:
            try:
                data, more = await connection.read(operation.idle_timeout_s)
            except CallerLeft:
                return
            except (UpstreamClosed, UpstreamSilent, UpstreamGarbled) as error:
                # The status is out: all that can be done is to break the connection, as the service did.
                log.warning("gateway.answer_cut", service=self._upstream.service, error=type(error).__name__)
                return
            if more and data:
                try:
                    async with asyncio.timeout(operation.caller_timeout_s):
                        await self._send({"type": "http.response.body", "body": data, "more_body": True})
                except TimeoutError:
                    log.info("gateway.caller_stopped_reading", service=self._upstream.service)
                    return
            elif not more:
                await self._send({"type": "http.response.body", "body": data, "more_body": False})


async def _authorise(request: Request, access: Access) -> None:
    if access == "public":
        return
    scheme, token = get_authorization_scheme_param(request.headers.get("authorization"))
    user = await current_user(request, token if scheme.lower() == "bearer" else None)
    if access == "admin":
        await current_admin(user)


def _head(scope: Scope, operation: Operation, length: int, traceparent: bytes | None = None) -> bytes:
    target: bytes = scope["raw_path"]
    if scope["query_string"]:
        target = b"%b?%b" % (target, scope["query_string"])
    client = scope.get("client")
    return request_head(
        method=scope["method"],
        target=target,
        authority=operation.upstream.authority,
        headers=scope["headers"],
        length=length,
        request_id=scope["state"]["request_id"],
        client=client[0] if client else "unknown",
        scheme=scope["scheme"],
        traceparent=traceparent,
    )


async def _next_part(receive: Receive, timeout_s: float) -> tuple[bytes, bool]:
    try:
        async with asyncio.timeout(timeout_s):
            message = await receive()
    except TimeoutError as error:
        raise CallerTooSlow(
            f"Nothing more of the body came for {timeout_s:g} s.", headers={"Connection": "close"}
        ) from error
    if message["type"] == "http.disconnect":
        raise CallerLeft
    return message.get("body", b""), message.get("more_body", False)


async def _whole_body(receive: Receive, operation: Operation, length: int) -> bytes:
    """Return a body of `length` bytes, which the server has already held the caller to."""
    parts: list[bytes] = []
    more = length > 0
    while more:
        data, more = await _next_part(receive, operation.caller_timeout_s)
        parts.append(data)
    return parts[0] if len(parts) == 1 else b"".join(parts)


@contextlib.contextmanager
def _translated(service: str) -> Iterator[None]:
    try:
        yield
    except UpstreamClosed as error:
        raise DependencyDown(
            f"The service `{service}` closed the connection before it answered; try again shortly.", service=service
        ) from error
    except UpstreamSilent as error:
        raise UpstreamTimeout(f"The service `{service}` did not answer in time.", service=service) from error
    except UpstreamGarbled as error:
        raise UpstreamAnswerUnusable(
            f"The service `{service}` gave an answer that cannot be read.", service=service
        ) from error


def _too_large(limit: int) -> BodyTooLarge:
    return BodyTooLarge(f"The body may have {limit:,} bytes at most here.", limit_bytes=limit)
