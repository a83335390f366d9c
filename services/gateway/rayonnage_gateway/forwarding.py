"""Forwards the requests to one public path: verifies the caller, applies the limits, relays request and response."""

from __future__ import annotations

import asyncio
import functools
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Literal

import structlog
from starlette.types import Message, Receive, Scope, Send

from rayonnage_gateway.connection import HOP_BY_HOP, Connection, Header, UpstreamConnectionLost, connection_options
from rayonnage_gateway.rate_limit import RateLimiter
from rayonnage_gateway.upstream import Upstream
from rayonnage_shared.auth.dependencies import check_admin, verified_caller
from rayonnage_shared.auth.tokens import TokenVerifier
from rayonnage_shared.core.background import AbortOnFailure
from rayonnage_shared.core.errors import BodyTooLarge, RayonnageError
from rayonnage_shared.http.middleware import SPAN
from rayonnage_shared.http.problems import CLIENT_DISCONNECTED_STATUS
from rayonnage_shared.observability.tracing import traceparent_of, tracing

log = structlog.get_logger()

Access = Literal["public", "user", "admin"]

CHUNKED = -1
"""The length of a body with `Transfer-Encoding: chunked`."""
SMALL_BODY_BYTES = 64 * 1024
"""A body that cannot be larger is received whole before a connection to the service is used."""

_SAFE_METHODS = frozenset({"GET", "HEAD"})
_LENGTH = re.compile(rb"[0-9]{1,18}")
# The gateway sets these itself; a client cannot.
_NOT_FORWARDED = HOP_BY_HOP | frozenset(
    b"host content-length expect baggage forwarded traceparent tracestate x-forwarded-for x-forwarded-host "
    b"x-forwarded-port x-forwarded-proto x-real-ip x-request-id".split()
)
# A request line, then one header per line: nothing that a service could parse as another line or another request.
_SOUND_HEAD = re.compile(
    rb"[A-Z]+ /[!-~]* HTTP/1\.1\r\n(?:[!#$%&'*+\-.^_`|~0-9A-Za-z]+: [\t\x20-\x7e\x80-\xff]*\r\n)+\r\n"
)


class BadRequestHead(RayonnageError):
    status, code, title = 400, "bad_request_head", "The request cannot be read"


class RequestTimeout(RayonnageError):
    status, code, title = 408, "request_timeout", "The request body did not arrive in time"


class ClientDisconnected(Exception):
    """The client closed the connection."""


class ClientStalled(Exception):
    """The client stopped reading the response."""


@dataclass(frozen=True, slots=True)
class Operation:
    """One method of one public path: who may call it, its limits, and how it is forwarded."""

    upstream: Upstream
    access: Access
    max_body_bytes: int
    timeout_s: float
    idle_timeout_s: float
    client_timeout_s: float
    total_timeout_s: float = float("inf")
    """From the request's head to the end of the response."""
    rate_limit: RateLimiter | None = None
    replayable: bool = False
    run_to_completion: bool = False
    """Once its body is complete, the request goes on although the client disconnects."""


class ReplayBudget:
    """The memory for request bodies that are kept for a replay, shared by all requests."""

    def __init__(self, limit_bytes: int) -> None:
        self.left = limit_bytes

    def reserve(self, count: int) -> bool:
        """Return whether `count` bytes are free, and if so, reserve them."""
        if count > self.left:
            return False
        self.left -= count
        return True

    def release(self, count: int) -> None:
        """Undo a `reserve`."""
        self.left += count


class Forwarder:
    """ASGI application of one public path: `ForwardingPath` calls it, or FastAPI's router."""

    def __init__(
        self, operations: Mapping[str, Operation], replay_budget: ReplayBudget, verifier: TokenVerifier
    ) -> None:
        self._operations = operations
        self._replay_budget = replay_budget
        self._verifier = verifier

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        method: str = scope["method"]
        operation = self._operations["GET" if method == "HEAD" else method]
        if operation.access != "public":
            self._authorise(scope, operation.access)
        if operation.rate_limit is not None:
            await operation.rate_limit(scope)
        length = body_length(scope["headers"])
        if length > operation.max_body_bytes:
            raise _too_large(operation.max_body_bytes)
        exchange = _Exchange(operation, method, receive, send)
        traces, parent = tracing(), scope["state"].get(SPAN)
        span = traces.client_span(parent, method, operation.upstream.service) if traces and parent else None
        try:
            await self._forward(exchange, scope, length, traceparent_of(span) if span else None)
        except ClientDisconnected:
            if not exchange.status:
                # Nobody reads this response, but the metrics and the access log take the status from it.
                await send({"type": "http.response.start", "status": CLIENT_DISCONNECTED_STATUS, "headers": []})
        except ClientStalled:
            log.info("gateway.client.stalled", service=operation.upstream.service)
            # Before a response has begun, the server would send an error, which this client does not read either.
            while not exchange.status and (await receive())["type"] != "http.disconnect":
                pass
        finally:
            if traces and span:
                traces.end(span, exchange.status)

    async def _forward(self, exchange: _Exchange, scope: Scope, length: int, traceparent: bytes | None) -> None:
        operation = exchange.operation
        head = request_head(scope, operation.upstream.authority, length, traceparent)
        if length == 0 and scope["method"] in _SAFE_METHODS:
            await exchange.send_whole(head, b"", replayable=True)
        elif operation.replayable and length != CHUNKED and self._replay_budget.reserve(length):
            try:
                await exchange.send_whole(head, await exchange.read_body(length), replayable=True)
            finally:
                self._replay_budget.release(length)
        elif (
            operation.max_body_bytes <= SMALL_BODY_BYTES or 0 <= length <= SMALL_BODY_BYTES
        ) and not operation.run_to_completion:
            # Read before a slot is taken: a client that sends slowly holds nothing that others need.
            body = await exchange.read_body(length)
            if length == CHUNKED:
                head = request_head(scope, operation.upstream.authority, len(body), traceparent)
            await exchange.send_whole(head, body, replayable=False)
        else:
            await exchange.stream(head, length)

    def _authorise(self, scope: Scope, access: Access) -> None:
        user = verified_caller(self._verifier, _authorization(scope))
        scope["state"]["user"] = user.username
        if access == "admin":
            check_admin(user)


class _Exchange:
    """One request to a service, and its response on the way back to the client."""

    def __init__(self, operation: Operation, method: str, receive: Receive, send: Send) -> None:
        self.status = 0  # of the response, once it has begun
        self.operation = operation
        self._method = method
        self._receive = receive
        self._send = send
        self._loop = asyncio.get_running_loop()
        self._ends_at = self._loop.time() + operation.total_timeout_s

    async def read_body(self, length: int) -> bytes:
        """Return the request's body; the ASGI server holds the client to `length`, unless that is CHUNKED."""
        parts: list[bytes] = []
        received = 0
        more = length != 0
        while more:
            data, more = await self._next_part()
            received += len(data)
            if received > self.operation.max_body_bytes:
                raise _too_large(self.operation.max_body_bytes)
            parts.append(data)
        return parts[0] if len(parts) == 1 else b"".join(parts)

    async def send_whole(self, head: bytes, body: bytes, *, replayable: bool) -> None:
        """Send a complete request.

        A replayable one is sent once more if the connection is lost before the first byte of a response.
        """
        with AbortOnFailure(self._wait_for_disconnect) as watch:
            try:
                await self._attempt(head, body, watch, checked=not replayable)
            except UpstreamConnectionLost:
                if not replayable:
                    raise
                log.info("gateway.request.replayed", service=self.operation.upstream.service)
                await self._attempt(head, body, watch, fresh=True)

    async def _attempt(
        self, head: bytes, body: bytes, watch: AbortOnFailure, *, fresh: bool = False, checked: bool = False
    ) -> None:
        async with self.operation.upstream.connection(fresh=fresh, checked=checked) as connection:
            connection.start(self._method, head, body, timeout_s=self.operation.timeout_s)
            await connection.wait_for_head()
            await self._relay(connection, watch)

    async def stream(self, head: bytes, length: int) -> None:
        """Send the request while its body arrives; never twice."""
        async with self.operation.upstream.connection(checked=True) as connection:
            connection.start(self._method, head, timeout_s=None)
            with AbortOnFailure(self._upload, connection, length) as watch:
                await connection.wait_for_head()
                if not connection.request_sent:
                    watch.stop()  # an early response: the service does not need the rest of the body
                await self._relay(connection, watch)

    async def _upload(self, connection: Connection, length: int) -> None:
        operation = self.operation
        sent = 0
        more = length != 0
        while more:
            data, more = await self._next_part()
            sent += len(data)
            if sent > operation.max_body_bytes:
                raise _too_large(operation.max_body_bytes)
            if length == CHUNKED:
                data = (b"%x\r\n%b\r\n" % (len(data), data) if data else b"") + (b"" if more else b"0\r\n\r\n")
            if data and not await connection.write(data, operation.idle_timeout_s):
                return
        connection.end_request(operation.timeout_s)
        if not operation.run_to_completion:
            await self._wait_for_disconnect()

    async def _next_part(self) -> tuple[bytes, bool]:
        """Return the next part of the request's body, and whether more follows."""
        timeout_s = min(self.operation.client_timeout_s, self._ends_at - self._loop.time())
        try:
            async with asyncio.timeout(timeout_s):
                message = await self._receive()
        except TimeoutError as error:
            raise RequestTimeout(
                "The request body did not arrive in time: send it without a pause of "
                f"{self.operation.client_timeout_s:g} s, and within {self.operation.total_timeout_s:g} s.",
                headers={"Connection": "close"},
            ) from error
        if message["type"] == "http.disconnect":
            raise ClientDisconnected
        return message.get("body", b""), message.get("more_body", False)

    async def _wait_for_disconnect(self) -> None:
        while (await self._receive())["type"] != "http.disconnect":
            pass
        raise ClientDisconnected

    async def _relay(self, connection: Connection, watch: AbortOnFailure) -> None:
        """Pass the response on as it arrives, as fast as the client reads it."""
        operation = self.operation
        message: Message = {
            "type": "http.response.start",
            "status": connection.status,
            "headers": connection.headers,
        }
        stalled = functools.partial(watch.abort, ClientStalled())
        more = True
        try:
            while True:
                left_s = self._ends_at - self._loop.time()
                connection.expect_client_within(min(operation.client_timeout_s, left_s), stalled)
                await self._send(message)
                self.status = connection.status
                if not more:
                    return
                data, more = await connection.read(min(operation.idle_timeout_s, left_s))
                message = {"type": "http.response.body", "body": data, "more_body": more}
        except RayonnageError as error:
            # The status line is sent: all that is left is to break the connection to the client, as the service did.
            log.warning("gateway.response.truncated", service=operation.upstream.service, error=type(error).__name__)


def _authorization(scope: Scope) -> bytes | None:
    """Return the header; two would be forwarded, and a service could read the one that was not verified here."""
    found = [value for name, value in scope["headers"] if name == b"authorization"]
    if len(found) > 1:
        raise BadRequestHead("The request has more than one Authorization header.")
    return found[0] if found else None


def body_length(headers: Iterable[Header]) -> int:
    """Return how many bytes of body the head announces, or CHUNKED.

    Raises BadRequestHead when the head is ambiguous: two parsers could disagree where the body ends.
    """
    length: bytes | None = None
    encoding: bytes | None = None
    for name, value in headers:
        if name == b"content-length":
            if length is not None:
                raise BadRequestHead("The request has more than one Content-Length.")
            length = value
        elif name == b"transfer-encoding":
            if encoding is not None:
                raise BadRequestHead("The request has more than one Transfer-Encoding.")
            encoding = value
    if encoding is not None:
        if length is not None:
            raise BadRequestHead("The request has both Content-Length and Transfer-Encoding.")
        if encoding.strip().lower() != b"chunked":
            raise BadRequestHead("Transfer-Encoding can only be `chunked`.")
        return CHUNKED
    if length is None:
        return 0
    if not _LENGTH.fullmatch(length):
        raise BadRequestHead("Content-Length is not a number of bytes.")
    return int(length)


def request_head(scope: Scope, authority: bytes, length: int, traceparent: bytes | None = None) -> bytes:
    """Return the head that the service gets: the client's headers, without those that the gateway sets itself.

    Raises BadRequestHead when it contains a byte that is not allowed there.
    """
    method: str = scope["method"]
    headers: list[Header] = scope["headers"]
    target: bytes = scope["raw_path"]
    if scope["query_string"]:
        target = b"%b?%b" % (target, scope["query_string"])
    dropped = _NOT_FORWARDED
    if options := connection_options(headers):
        dropped |= options
    parts = [b"%b %b HTTP/1.1\r\nhost: %b\r\n" % (method.encode("latin-1"), target, authority)]
    parts += [b"%b: %b\r\n" % header for header in headers if header[0] not in dropped]
    if length == CHUNKED:
        parts.append(b"transfer-encoding: chunked\r\n")
    elif length or method in ("POST", "PUT", "PATCH"):
        parts.append(b"content-length: %d\r\n" % length)
    if traceparent is not None:
        parts.append(b"traceparent: %b\r\n" % traceparent)
    client = scope["client"][0] if scope.get("client") else "unknown"
    parts.append(
        b"x-request-id: %b\r\nx-forwarded-for: %b\r\nx-forwarded-proto: %b\r\n\r\n"
        % (
            scope["state"]["request_id"].encode("latin-1"),
            client.encode("latin-1", "replace"),
            scope["scheme"].encode("latin-1"),
        )
    )
    head = b"".join(parts)
    lines = len(parts) + 4  # the first part is 2 lines, the last 4 with the empty one, every other is one
    if head.count(b"\n") != lines or not _SOUND_HEAD.fullmatch(head):
        raise BadRequestHead("The request line or a header contains a character that is not allowed there.")
    return head


def _too_large(limit: int) -> BodyTooLarge:
    return BodyTooLarge(f"The request body may have at most {limit:,} bytes.", limit_bytes=limit)
