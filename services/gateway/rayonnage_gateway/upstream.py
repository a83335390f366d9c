"""The bounded pool of connections to one service."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass

from rayonnage_gateway.addresses import Address, Addresses, Lookup
from rayonnage_gateway.connection import Connection, UpstreamClosed, UpstreamGarbled, UpstreamSilent
from rayonnage_shared.core.errors import DependencyDown, Overloaded

CLOCK_S = 0.25  # how late a timeout may strike; all of them are seconds
AVOID_FAILED_S = 1.0


@dataclass(frozen=True, slots=True)
class PoolLimits:
    """How many exchanges may be under way, how many may wait for their turn, and for how long."""

    connections: int
    waiting: int
    wait_s: float
    connect_timeout_s: float
    keep_alive_s: float


class Upstream:
    """Connections to one service, which may run at several addresses: the one with the least under way is asked.

    `acquire` and `release` come in pairs. Nothing here retries a request; a dead address is left out for a second.
    """

    def __init__(self, service: str, url: str, limits: PoolLimits, lookup: Lookup | None = None) -> None:
        self.service = service
        self._limits = limits
        self._addresses = Addresses(service, url, _close_idle, lookup)
        self._in_flight = 0
        self._waiters: deque[asyncio.Future[None]] = deque()
        self._busy: set[Connection] = set()
        self._clock: asyncio.TimerHandle | None = None
        self._loop: asyncio.AbstractEventLoop

    @property
    def authority(self) -> bytes:
        """What stands in the Host header of requests to this service."""
        return self._addresses.authority

    def open(self) -> None:
        """Start the clock that ends overdue exchanges and idle connections, and follow the names of the service."""
        self._loop = asyncio.get_running_loop()
        self._addresses.open()
        self._tick()

    def close(self) -> None:
        """Close every connection; exchanges under way fail."""
        if self._clock is not None:
            self._clock.cancel()
        self._addresses.close()
        for connection in list(self._busy):
            connection.close()
        for address in self._addresses.current:
            _close_idle(address)

    async def acquire(self, *, fresh: bool = False, checked: bool = False) -> Connection:
        """Return a connection for one exchange.

        `fresh`: a new one, at another address where there is one, after an exchange that died; `checked`: a kept one
        only if nothing has arrived on it. Raises Overloaded when too many wait, DependencyDown when none answers.
        """
        if self._in_flight >= self._limits.connections:
            await self._wait_for_turn()
        else:
            self._in_flight += 1
        try:
            connection = await self._connection(fresh=fresh, checked=checked)
        except BaseException:
            self._end_turn()
            raise
        self._busy.add(connection)
        return connection

    def release(self, connection: Connection) -> None:
        """Take a connection back: kept when its exchange ended well, closed otherwise."""
        self._busy.discard(connection)
        address = connection.address
        assert isinstance(address, Address)
        address.in_flight -= 1
        try:
            connection.deadline = float("inf")
            if connection.reusable and not address.left:
                connection.busy = False
                connection.idle_since = self._loop.time()
                address.idle.append(connection)
            else:
                connection.close()
        finally:
            self._end_turn()

    async def fetch(self, path: str, *, timeout_s: float, max_bytes: int = 8 * 1024 * 1024) -> tuple[int, bytes]:
        """Return status and body of a GET that the gateway asks on its own behalf.

        Raises DependencyDown, also when the answer is not whole, late or longer than `max_bytes`.
        """
        connection = await self.acquire(checked=True)
        try:
            connection.start("GET", b"GET %b HTTP/1.1\r\nhost: %b\r\n\r\n" % (path.encode(), self.authority))
            connection.expect_within(timeout_s)
            await connection.wait_for_head()
            body = bytearray()
            more = True
            while more:
                data, more = await connection.read(timeout_s)
                body += data
                if len(body) > max_bytes:
                    raise UpstreamGarbled(f"more than {max_bytes} bytes")
            return connection.status, bytes(body)
        except (UpstreamClosed, UpstreamSilent, UpstreamGarbled) as error:
            raise DependencyDown(
                f"The service `{self.service}` gave no usable answer at {path}.", service=self.service
            ) from error
        finally:
            self.release(connection)

    def avoid(self, connection: Connection) -> None:
        """Leave the address of a connection that died out for a while if there is another."""
        address = connection.address
        assert isinstance(address, Address)
        address.avoided_until = self._loop.time() + AVOID_FAILED_S

    async def _connection(self, *, fresh: bool, checked: bool) -> Connection:
        now = self._loop.time()
        for address in self._in_order(now):
            address.in_flight += 1
            try:
                while address.idle and not fresh:
                    connection = address.idle.pop()
                    if now - connection.idle_since < self._limits.keep_alive_s and (
                        connection.looks_alive() if checked else not connection.closed
                    ):
                        return connection
                    connection.close()
                return await self._connect(address)
            except OSError:  # TimeoutError is one
                address.in_flight -= 1
                address.avoided_until = self._loop.time() + AVOID_FAILED_S
            except BaseException:
                address.in_flight -= 1
                raise
        raise DependencyDown(f"The service `{self.service}` does not answer; try again shortly.", service=self.service)

    def _in_order(self, now: float) -> Sequence[Address]:
        addresses = self._addresses.current
        if len(addresses) == 1:
            return addresses
        return sorted(addresses, key=lambda address: (address.avoided_until > now, address.in_flight))

    async def _connect(self, address: Address) -> Connection:
        async with asyncio.timeout(self._limits.connect_timeout_s):
            _transport, connection = await self._loop.create_connection(
                lambda: Connection(address, self._loop, self._forget), address.host, address.port
            )
        return connection

    def _forget(self, connection: Connection) -> None:
        address = connection.address
        if isinstance(address, Address) and connection in address.idle:
            address.idle.remove(connection)

    async def _wait_for_turn(self) -> None:
        if len(self._waiters) >= self._limits.waiting:
            raise self._overloaded()
        turn: asyncio.Future[None] = self._loop.create_future()
        self._waiters.append(turn)
        timer = self._loop.call_later(self._limits.wait_s, self._give_up, turn)
        try:
            await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled() and turn.exception() is None:
                self._end_turn()  # the turn came in the moment of the cancellation
            raise
        finally:
            timer.cancel()
            if not turn.done() or turn.cancelled():
                self._waiters = deque(waiter for waiter in self._waiters if waiter is not turn)

    def _give_up(self, turn: asyncio.Future[None]) -> None:
        if not turn.done():
            self._waiters.remove(turn)
            turn.set_exception(self._overloaded())

    def _end_turn(self) -> None:
        while self._waiters:
            turn = self._waiters.popleft()
            if not turn.done():
                turn.set_result(None)
                return
        self._in_flight -= 1

    def _overloaded(self) -> Overloaded:
        return Overloaded(f"The service `{self.service}` is at capacity; try again shortly.", service=self.service)

    def _tick(self) -> None:
        now = self._loop.time()
        for connection in [busy for busy in self._busy if busy.deadline < now]:
            connection.fail(UpstreamSilent())
        for address in self._addresses.current:
            while address.idle and now - address.idle[0].idle_since > self._limits.keep_alive_s:
                address.idle.pop(0).close()
        self._clock = self._loop.call_later(CLOCK_S, self._tick)


def _close_idle(address: Address) -> None:
    for connection in list(address.idle):
        connection.close()
    address.idle.clear()
