"""One HTTP/1.1 connection to a service: sends a request, parses the response, keeps both directions bounded."""

from __future__ import annotations

import asyncio
import select
from collections.abc import Callable, Iterable
from typing import cast

import httptools

from rayonnage_shared.core.errors import DependencyDown, RayonnageError

MAX_HEAD_BYTES = 64 * 1024
HIGH_WATER_BYTES = 256 * 1024
_NEVER = float("inf")
_NO_BODY_STATUSES = frozenset({204, 304})

Header = tuple[bytes, bytes]

# RFC 9110 section 7.6.1, and what older software sends: these describe one connection and are never forwarded.
HOP_BY_HOP = frozenset(
    b"connection keep-alive proxy-authenticate proxy-authorization proxy-connection te trailer transfer-encoding "
    b"upgrade".split()
)
_NOT_IN_RESPONSES = HOP_BY_HOP | {b"date", b"server", b"x-request-id"}  # the gateway sets the last three
_USUAL_CONNECTION = frozenset({b"keep-alive", b"close", b""})


class UpstreamConnectionLost(DependencyDown):
    """The service closed the connection before the first byte of its response: the request may be sent again."""


class ResponseTruncated(DependencyDown):
    """The service closed the connection in the middle of its response."""


class UpstreamTimeout(RayonnageError):
    status, code, title = 504, "upstream_timeout", "A part of the platform took too long"


class BadUpstreamResponse(RayonnageError):
    status, code, title = 502, "bad_upstream_answer", "A part of the platform sent an invalid response"


class Connection(asyncio.Protocol):
    """Carries one exchange at a time, for the one task that holds it.

    The pool's clock fails an exchange that is past its `deadline` (event loop time); a timer for each wait would cost
    more.
    """

    failure: Exception | None

    def __init__(
        self, service: str, loop: asyncio.AbstractEventLoop, on_lost: Callable[[Connection], None] | None = None
    ) -> None:
        self.deadline = _NEVER
        self.idle_since = 0.0
        self.closed = False
        self._service = service
        self._loop = loop
        self._on_lost = on_lost
        self._parser = httptools.HttpResponseParser(self)
        self._transport: asyncio.Transport
        self._reader: asyncio.Future[None] | None = None
        self._writer: asyncio.Future[None] | None = None
        self._write_paused = False
        self._read_paused = False
        self._on_client_timeout: Callable[[], None] | None = None
        self._busy = False
        self._begin("")
        # Before its first exchange, a connection is in the same state as after a complete one.
        self.request_sent = self.complete = self._keep_alive = True

    # --- called by the holder ---

    def start(self, method: str, head: bytes, body: bytes = b"", *, timeout_s: float | None) -> None:
        """Send a request, to which the head of a response must come in time.

        Without a timeout, the body follows: by `write`, until `end_request`.
        """
        self._begin(method)
        self._busy = True
        if timeout_s is not None:
            self.end_request(timeout_s)
        if self.closed:
            self.failure = self._lost()
        elif body:
            self._transport.writelines((head, body))
        else:
            self._transport.write(head)

    def _begin(self, method: str) -> None:
        self.request_sent = False
        self.head_complete = False
        self.complete = False
        self.failure = None
        self.status = 0
        self.headers: list[Header] = []
        self._method = method
        self._response_begun = False
        self._keep_alive = False
        self._head_bytes = 0
        self._until_close = False
        self._chunks: list[bytes] = []
        self._buffered = 0

    async def write(self, data: bytes, timeout_s: float) -> bool:
        """Send part of the request's body, waiting while the service reads slowly.

        Return False once the exchange has failed: `wait_for_head` and `read` raise the reason.
        """
        if self.failure is not None:
            return False
        self._transport.write(data)
        if self._write_paused:
            self._expect_within(timeout_s)
            self._writer = self._loop.create_future()
            try:
                await self._writer
            finally:
                self._writer = None
            self.deadline = _NEVER
        return self.failure is None

    def end_request(self, timeout_s: float) -> None:
        """Note that the whole request is sent; the head of the response must come in time."""
        self.request_sent = True
        if not self.head_complete:
            self._expect_within(timeout_s)

    def expect_client_within(self, timeout_s: float, on_timeout: Callable[[], None]) -> None:
        """Set the deadline for a client to take what was read; past it, the pool's clock calls `on_timeout`."""
        self.deadline = self._loop.time() + timeout_s
        self._on_client_timeout = on_timeout

    async def wait_for_head(self) -> None:
        """Return once `status` and `headers` are known. Raises the reason why the exchange failed."""
        while not self.head_complete:
            if self.failure is not None:
                raise self.failure
            await self._wait()
        self.deadline = _NEVER

    async def read(self, timeout_s: float) -> tuple[bytes, bool]:
        """Return the next bytes of the response's body and whether more follow. Raises the reason of a failure."""
        while not self._chunks and not self.complete:
            if self.failure is not None:
                raise self.failure
            self._expect_within(timeout_s)
            await self._wait()
        self.deadline = _NEVER
        chunks = self._chunks
        data = chunks[0] if len(chunks) == 1 else b"".join(chunks)
        self._chunks = []
        self._buffered = 0
        if self._read_paused and not self.closed:
            self._read_paused = False
            self._transport.resume_reading()
        return data, not self.complete

    # --- called by the pool ---

    @property
    def reusable(self) -> bool:
        """Whether another exchange may follow."""
        return self.request_sent and self.complete and self._keep_alive and not self.closed and self.failure is None

    def set_idle(self) -> None:
        """Mark the connection as waiting for its next exchange."""
        self._busy = False
        self.deadline = _NEVER
        self._on_client_timeout = None
        self.idle_since = self._loop.time()

    def looks_alive(self) -> bool:
        """Return whether an idle connection is readable: a readable one was closed by the service."""
        if self.closed or self._transport.is_closing():
            return False
        poll = select.poll()
        poll.register(self._transport.get_extra_info("socket").fileno(), select.POLLIN)
        return not poll.poll(0)

    def time_out(self) -> None:
        """End an exchange that is past its deadline."""
        if self._on_client_timeout is not None:
            self._on_client_timeout()
            return
        self._fail(UpstreamTimeout(f"The service `{self._service}` did not answer in time.", service=self._service))

    def close(self) -> None:
        """Close the connection now."""
        self.closed = True
        self._transport.abort()

    # --- called by the transport ---

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._transport.set_write_buffer_limits(high=HIGH_WATER_BYTES)

    def data_received(self, data: bytes) -> None:
        if not self._busy:
            self.close()
            return
        if self.complete or self.failure is not None:
            self._keep_alive = False
            return
        self._response_begun = True
        try:
            self._parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade) as error:
            if not self.complete:
                self._fail(self._bad_response(str(error) or type(error).__name__))
            self._keep_alive = False
            return
        if not self.head_complete:
            self._head_bytes += len(data)
            if self._head_bytes > MAX_HEAD_BYTES:
                self._fail(self._bad_response(f"its head has more than {MAX_HEAD_BYTES:,} bytes"))
            return
        if self._buffered > HIGH_WATER_BYTES and not self._read_paused:
            self._read_paused = True
            self._transport.pause_reading()
        _wake(self._reader)

    def connection_lost(self, exc: Exception | None) -> None:
        self.closed = True
        if self._busy and not self.complete:
            if self._until_close and exc is None and self.failure is None:
                self.complete = True
            elif self.failure is None:
                self.failure = self._lost()
        self._wake_both()
        if self._on_lost is not None:
            self._on_lost(self)

    def pause_writing(self) -> None:
        self._write_paused = True

    def resume_writing(self) -> None:
        self._write_paused = False
        _wake(self._writer)

    # --- called by the parser ---

    def on_message_begin(self) -> None:
        if self.complete:
            self._keep_alive = False

    def on_header(self, name: bytes, value: bytes) -> None:
        if not self.complete:
            self.headers.append((name.lower(), value))

    def on_headers_complete(self) -> None:
        if self.complete:
            return
        status = self._parser.get_status_code()
        if status < 200 and status != 101:
            self.headers = []  # an interim response, such as 100 Continue
            return
        if not 200 <= status <= 599:
            self._fail(self._bad_response(f"its status is {status}"))
            return
        self.status = status
        self._keep_alive = self._parser.should_keep_alive()
        if self._method == "HEAD":
            # The parser cannot be told that no body follows, so this connection is not used again.
            self._keep_alive = False
            self.complete = True
        elif status not in _NO_BODY_STATUSES:
            self._until_close = not any(
                name in (b"content-length", b"transfer-encoding") for name, _value in self.headers
            )
        self.headers = response_headers(self.headers)
        self.head_complete = True

    def on_body(self, body: bytes) -> None:
        if not self.complete:
            self._chunks.append(body)
            self._buffered += len(body)

    def on_message_complete(self) -> None:
        if self.head_complete:
            self.complete = True

    # --- waiting and failing ---

    def _expect_within(self, timeout_s: float) -> None:
        self.deadline = self._loop.time() + timeout_s
        self._on_client_timeout = None

    async def _wait(self) -> None:
        self._reader = self._loop.create_future()
        try:
            await self._reader
        finally:
            self._reader = None

    def _wake_both(self) -> None:
        _wake(self._reader)
        _wake(self._writer)

    def _fail(self, failure: Exception) -> None:
        if self.failure is None:
            self.failure = failure
        self._transport.abort()
        self._wake_both()

    def _lost(self) -> Exception:
        kind: type[DependencyDown] = ResponseTruncated if self._response_begun else UpstreamConnectionLost
        moment = "in the middle of its response" if self._response_begun else "before it answered"
        return kind(
            f"The service `{self._service}` closed the connection {moment}; try again shortly.", service=self._service
        )

    def _bad_response(self, reason: str) -> Exception:
        return BadUpstreamResponse(
            f"The service `{self._service}` sent an invalid response: {reason}.", service=self._service
        )


def _wake(waiter: asyncio.Future[None] | None) -> None:
    if waiter is not None and not waiter.done():
        waiter.set_result(None)


def response_headers(headers: list[Header]) -> list[Header]:
    """Return the headers of a service's response that are forwarded to the client."""
    dropped = _NOT_IN_RESPONSES
    if options := connection_options(headers):
        dropped |= options
    if any(name == b"transfer-encoding" for name, _value in headers):
        dropped |= {b"content-length"}
    return [header for header in headers if header[0] not in dropped]


def connection_options(headers: Iterable[Header]) -> frozenset[bytes]:
    """Return the names of the headers that `Connection` declares to be hop-by-hop."""
    for name, value in headers:
        if name == b"connection" and value.lower() not in _USUAL_CONNECTION:
            break
    else:
        return frozenset()
    return frozenset(
        option.strip().lower() for name, value in headers if name == b"connection" for option in value.split(b",")
    )
