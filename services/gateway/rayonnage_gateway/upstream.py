"""The connections to one service: a bounded number of slots, and a pool of kept-alive connections."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from types import TracebackType

from rayonnage_gateway.addresses import Address, Addresses, Lookup
from rayonnage_gateway.connection import BadUpstreamResponse, Connection, UpstreamConnectionLost
from rayonnage_shared.core.errors import DependencyDown, Overloaded

CLOCK_S = 0.25  # how late a timeout may fire; every timeout is several seconds
AVOID_FAILED_S = 1.0


@dataclass(frozen=True, slots=True)
class PoolLimits:
    """How many exchanges may be in progress, how many may wait for a slot, and for how long."""

    connections: int
    waiting: int
    wait_s: float
    connect_timeout_s: float
    keep_alive_s: float


class Slots:
    """Limits the exchanges in progress with one service; a request beyond the limit waits for a free slot."""

    def __init__(self, service: str, limits: PoolLimits) -> None:
        self.in_use = 0
        self._service = service
        self._limits = limits
        self._waiting: dict[asyncio.Future[None], None] = {}  # in the order of arrival

    async def acquire(self) -> None:
        """Take a slot. Raises Overloaded when too many requests wait, or when none is freed in time."""
        if self.in_use < self._limits.connections:
            self.in_use += 1
            return
        if len(self._waiting) >= self._limits.waiting:
            raise self._overloaded()
        handed_over: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting[handed_over] = None
        try:
            async with asyncio.timeout(self._limits.wait_s):
                await handed_over
        except BaseException as error:
            self._waiting.pop(handed_over, None)
            if handed_over.done() and not handed_over.cancelled():
                self.release()  # the slot came at the moment of the cancellation
            if isinstance(error, TimeoutError):
                raise self._overloaded() from error
            raise

    def release(self) -> None:
        """Hand the slot to the request that has waited longest, or free it."""
        while self._waiting:
            handed_over = next(iter(self._waiting))
            del self._waiting[handed_over]
            if not handed_over.done():
                handed_over.set_result(None)
                return
        self.in_use -= 1

    def _overloaded(self) -> Overloaded:
        return Overloaded(f"The service `{self._service}` is at capacity; try again shortly.", service=self._service)


class Upstream:
    """One service, which may run at several addresses: requests go to the one with the fewest in progress.

    Of equally busy ones, it is the one that was used longest ago, so that few requests are shared evenly too.

    An address that fails is avoided for a second while there is another. Nothing here sends a request twice.
    """

    def __init__(self, service: str, url: str, limits: PoolLimits, lookup: Lookup | None = None) -> None:
        self.service = service
        self.slots = Slots(service, limits)
        self._limits = limits
        self._addresses = Addresses(service, url, lookup)
        self._busy: set[Connection] = set()
        self._turn = 0
        self._clock: asyncio.TimerHandle | None = None
        self._loop: asyncio.AbstractEventLoop

    @property
    def authority(self) -> bytes:
        """The Host header of requests to this service."""
        return self._addresses.authority

    def open(self) -> None:
        """Start the clock, which ends overdue exchanges and idle connections, and the look-ups of host names."""
        self._loop = asyncio.get_running_loop()
        self._addresses.open()
        self._tick()

    def close(self) -> None:
        """Close every connection; exchanges in progress fail."""
        if self._clock is not None:
            self._clock.cancel()
        self._addresses.close()
        for connection in list(self._busy):
            connection.close()

    def connection(self, *, fresh: bool = False, checked: bool = False) -> Lease:
        """Return a context manager that holds a slot and a connection for one exchange.

        `fresh` asks for a new connection, for a request that is sent again; `checked` for a kept one only if the
        service has not closed it. Entering raises Overloaded when no slot is free and DependencyDown when no address
        can be connected to.
        """
        return Lease(self, fresh, checked)

    async def fetch(self, path: str, *, timeout_s: float, max_bytes: int = 8 * 1024 * 1024) -> tuple[int, bytes]:
        """Send a GET of the gateway's own, and return status and body.

        Raises RayonnageError when no complete response of at most `max_bytes` comes in time.
        """
        async with self.connection(checked=True) as connection:
            head = b"GET %b HTTP/1.1\r\nhost: %b\r\n\r\n" % (path.encode(), self.authority)
            connection.start("GET", head, timeout_s=timeout_s)
            await connection.wait_for_head()
            body = bytearray()
            more = True
            while more:
                data, more = await connection.read(timeout_s)
                body += data
                if len(body) > max_bytes:
                    raise BadUpstreamResponse(
                        f"The service `{self.service}` sent more than {max_bytes:,} bytes at {path}.",
                        service=self.service,
                    )
            return connection.status, bytes(body)

    async def _open(self, *, fresh: bool, checked: bool) -> tuple[Address, Connection]:
        now = self._loop.time()
        for address in self._least_busy_first(now):
            address.in_flight += 1
            self._turn += 1
            address.last_turn = self._turn
            try:
                connection = None if fresh else self._kept(address, now, checked=checked)
                if connection is None:
                    connection = await self._connect(address)
            except BaseException as error:
                address.in_flight -= 1
                if not isinstance(error, OSError):  # TimeoutError is one
                    raise
                address.avoided_until = self._loop.time() + AVOID_FAILED_S
            else:
                self._busy.add(connection)
                return address, connection
        raise DependencyDown(f"The service `{self.service}` does not answer; try again shortly.", service=self.service)

    def _least_busy_first(self, now: float) -> Sequence[Address]:
        addresses = self._addresses.current
        if len(addresses) == 1:
            return addresses
        return sorted(addresses, key=lambda one: (one.avoided_until > now, one.in_flight, one.last_turn))

    def _kept(self, address: Address, now: float, *, checked: bool) -> Connection | None:
        while address.idle:
            connection = address.idle.pop()
            if now - connection.idle_since < self._limits.keep_alive_s and (
                connection.looks_alive() if checked else not connection.closed
            ):
                return connection
            connection.close()
        return None

    async def _connect(self, address: Address) -> Connection:
        async with asyncio.timeout(self._limits.connect_timeout_s):
            _transport, connection = await self._loop.create_connection(
                lambda: Connection(self.service, self._loop, address.forget), address.host, address.port
            )
        return connection

    def _put_back(self, address: Address, connection: Connection) -> None:
        """Keep the connection for another exchange, or close it."""
        self._busy.discard(connection)
        address.in_flight -= 1
        if connection.reusable and not address.removed:
            connection.set_idle()
            address.idle.append(connection)
        else:
            connection.close()

    def _tick(self) -> None:
        self._clock = self._loop.call_later(CLOCK_S, self._tick)
        now = self._loop.time()
        for connection in [busy for busy in self._busy if busy.deadline < now]:
            connection.time_out()
        for address in self._addresses.current:
            while address.idle and now - address.idle[0].idle_since > self._limits.keep_alive_s:
                address.idle.pop(0).close()


class Lease:
    """A slot and a connection, held for the length of an `async with` block and given back whatever ends it."""

    __slots__ = ("_address", "_checked", "_connection", "_fresh", "_upstream")

    def __init__(self, upstream: Upstream, fresh: bool, checked: bool) -> None:
        self._upstream = upstream
        self._fresh = fresh
        self._checked = checked
        self._address: Address
        self._connection: Connection

    async def __aenter__(self) -> Connection:
        upstream = self._upstream
        await upstream.slots.acquire()
        try:
            self._address, self._connection = await upstream._open(fresh=self._fresh, checked=self._checked)
        except BaseException:
            upstream.slots.release()
            raise
        return self._connection

    async def __aexit__(
        self, kind: type[BaseException] | None, _error: BaseException | None, _traceback: TracebackType | None
    ) -> None:
        upstream = self._upstream
        try:
            if kind is UpstreamConnectionLost:
                self._address.avoided_until = upstream._loop.time() + AVOID_FAILED_S
            upstream._put_back(self._address, self._connection)
        finally:
            upstream.slots.release()
