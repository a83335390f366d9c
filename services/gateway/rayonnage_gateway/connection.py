"""One HTTP/1.1 connection to a service: writes a request, parses the answer, keeps both directions bounded."""

from __future__ import annotations

import asyncio
import select
from collections.abc import Callable
from typing import cast

import httptools

MAX_HEAD_BYTES = 64 * 1024
HIGH_WATER_BYTES = 256 * 1024
_NO_BODY_STATUSES = frozenset({204, 304})

Header = tuple[bytes, bytes]


class UpstreamClosed(Exception):
    """The service closed the connection before its answer was whole."""


class UpstreamSilent(Exception):
    """The service said nothing within the time it had."""


class UpstreamGarbled(Exception):
    """What the service sent is not an HTTP answer that can be passed on."""


class Connection(asyncio.Protocol):
    """Carries one exchange at a time; whoever holds it is its only reader and its only writer.

    `deadline` (event loop time) is looked at by the pool's clock, which is cheaper than a timer for each wait.
    """

    failure: Exception | None

    def __init__(self, address: object, loop: asyncio.AbstractEventLoop, on_lost: Callable[[Connection], None]) -> None:
        self.address = address
        self.deadline = float("inf")
        self.idle_since = 0.0
        self.closed = False
        self.busy = False
        self._loop = loop
        self._on_lost = on_lost
        self._parser = httptools.HttpResponseParser(self)
        self._transport: asyncio.Transport
        self._reader: asyncio.Future[None] | None = None
        self._writer: asyncio.Future[None] | None = None
        self._write_paused = False
        self._read_paused = False
        self._begin("")
        # Until the first exchange, the connection is as one whose exchange ended well.
        self.complete = self._keep_alive = True

    # --- what the holder calls ---

    def start(self, method: str, head: bytes, body: bytes = b"", *, whole: bool = True) -> None:
        """Send a request's head and, when it is at hand, its body; `whole` says that nothing more will come."""
        self._begin(method)
        self.busy = True
        self.request_sent = whole
        if self.closed:
            self.failure = UpstreamClosed()
        elif body:
            self._transport.writelines((head, body))
        else:
            self._transport.write(head)

    def _begin(self, method: str) -> None:
        self.request_sent = True
        self.answer_begun = False
        self.head_complete = False
        self.complete = False
        self.failure = None
        self.status = 0
        self.headers: list[Header] = []
        self._method = method
        self._keep_alive = False
        self._head_bytes = 0
        self._until_close = False
        self._chunks: list[bytes] = []
        self._buffered = 0

    async def write(self, data: bytes, timeout_s: float) -> None:
        """Send a part of the request's body, waiting while the service is slow to read. Raises what ended it."""
        if self.failure is not None:
            raise self.failure
        self._transport.write(data)
        if self._write_paused:
            self.expect_within(timeout_s)
            self._writer = self._loop.create_future()
            try:
                await self._writer
            finally:
                self._writer = None
            self.deadline = float("inf")
            if self.failure is not None:
                raise self.failure

    async def wait_for_head(self) -> None:
        """Return once `status` and `headers` stand. Raises what ended the exchange before."""
        while not self.head_complete:
            if self.failure is not None:
                raise self.failure
            await self._wait()

    async def read(self, timeout_s: float) -> tuple[bytes, bool]:
        """Return the next bytes of the answer's body and whether more come. Raises what ended it before its end."""
        while not self._chunks and not self.complete:
            if self.failure is not None:
                raise self.failure
            self.expect_within(timeout_s)
            await self._wait()
        self.deadline = float("inf")
        chunks = self._chunks
        data = chunks[0] if len(chunks) == 1 else b"".join(chunks)
        self._chunks = []
        self._buffered = 0
        if self._read_paused and not self.closed:
            self._read_paused = False
            self._transport.resume_reading()
        return data, not self.complete

    def expect_within(self, seconds: float) -> None:
        """Let the exchange fail as UpstreamSilent unless this is moved on in time."""
        self.deadline = self._loop.time() + seconds

    def fail(self, failure: Exception) -> None:
        """End the exchange: whoever waits on it gets `failure`."""
        if self.failure is None:
            self.failure = failure
        self._transport.abort()
        self._wake()

    def close(self) -> None:
        """Close the connection now."""
        self.closed = True
        self._transport.abort()

    @property
    def reusable(self) -> bool:
        """Whether another exchange may follow the one that has ended."""
        return self.request_sent and self.complete and self._keep_alive and not self.closed and self.failure is None

    def looks_alive(self) -> bool:
        """Return whether nothing has arrived on an idle connection: something would be its end."""
        if self.closed or self._transport.is_closing():
            return False
        poll = select.poll()
        poll.register(self._transport.get_extra_info("socket").fileno(), select.POLLIN)
        return not poll.poll(0)

    # --- what the transport calls ---

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)
        self._transport.set_write_buffer_limits(high=HIGH_WATER_BYTES)

    def data_received(self, data: bytes) -> None:
        if not self.busy:
            self.close()
            return
        if self.complete or self.failure is not None:
            self._keep_alive = False
            return
        self.answer_begun = True
        try:
            self._parser.feed_data(data)
        except (httptools.HttpParserError, httptools.HttpParserUpgrade) as error:
            if not self.complete:
                self.fail(UpstreamGarbled(str(error) or type(error).__name__))
            self._keep_alive = False
            return
        if not self.head_complete:
            self._head_bytes += len(data)
            if self._head_bytes > MAX_HEAD_BYTES:
                self.fail(UpstreamGarbled("the head of the answer is too long"))
            return
        if self._buffered > HIGH_WATER_BYTES and not self._read_paused:
            self._read_paused = True
            self._transport.pause_reading()
        self._wake_reader()

    def connection_lost(self, exc: Exception | None) -> None:
        self.closed = True
        if self.busy and not self.complete:
            if self._until_close and exc is None and self.failure is None:
                self.complete = True
            elif self.failure is None:
                self.failure = UpstreamClosed()
        self._wake()
        self._on_lost(self)

    def pause_writing(self) -> None:
        self._write_paused = True

    def resume_writing(self) -> None:
        self._write_paused = False
        if self._writer is not None and not self._writer.done():
            self._writer.set_result(None)

    # --- what the parser calls ---

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
            self.headers = []  # an interim answer, such as 100 Continue
            return
        if not 200 <= status <= 599:
            raise UpstreamGarbled(f"status {status}")
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
        self.head_complete = True

    def on_body(self, body: bytes) -> None:
        if not self.complete:
            self._chunks.append(body)
            self._buffered += len(body)

    def on_message_complete(self) -> None:
        if self.head_complete:
            self.complete = True

    # --- waiting ---

    async def _wait(self) -> None:
        self._reader = self._loop.create_future()
        try:
            await self._reader
        finally:
            self._reader = None

    def _wake_reader(self) -> None:
        if self._reader is not None and not self._reader.done():
            self._reader.set_result(None)

    def _wake(self) -> None:
        self._wake_reader()
        if self._writer is not None and not self._writer.done():
            self._writer.set_result(None)
