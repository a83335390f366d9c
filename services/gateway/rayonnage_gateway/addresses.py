"""Service discovery: the addresses of a service, as configured or as a host name resolves to them, kept up to date."""

from __future__ import annotations

import asyncio
import ipaddress
import socket
from collections.abc import Awaitable, Callable, Collection
from dataclasses import dataclass, field
from urllib.parse import urlsplit

import structlog

from rayonnage_gateway.connection import Connection

LOOKUP_INTERVAL_S = 1.0
LOOKUP_TIMEOUT_S = 10.0  # the C library gives up after as long; more look-ups would only queue behind that one

log = structlog.get_logger()

Lookup = Callable[[str], Awaitable[Collection[str]]]
"""Returns the addresses that a host name resolves to. Raises OSError."""


@dataclass(slots=True, eq=False)
class Address:
    """One process of a service, and its idle connections."""

    host: str
    port: int
    authority: bytes
    idle: list[Connection] = field(default_factory=list)
    in_flight: int = 0
    last_turn: int = 0
    """Which of the service's requests was the last to go here, counted from 1."""
    avoided_until: float = 0.0
    removed: bool = False
    """The host name no longer resolves to it, or the pool is closed: no connection to it is kept."""

    def forget(self, connection: Connection) -> None:
        """Drop an idle connection that was closed."""
        if connection in self.idle:
            self.idle.remove(connection)

    def remove(self) -> None:
        """Close the idle connections and keep none from now on."""
        self.removed = True
        for connection in self.idle:
            connection.close()
        self.idle = []


@dataclass(slots=True, eq=False)
class _Host:
    """One part of the setting, and the addresses it resolves to: itself until the first look-up."""

    name: str
    port: int
    authority: bytes
    addresses: list[Address] = field(init=False)
    lookup_fails: bool = False

    def __post_init__(self) -> None:
        self.addresses = [self.address(self.name)]

    def address(self, host: str) -> Address:
        return Address(host, self.port, self.authority)

    @property
    def needs_lookup(self) -> bool:
        try:
            ipaddress.ip_address(self.name)
        except ValueError:
            return True
        return False


async def look_up(host: str) -> Collection[str]:
    """Return what the system's resolver knows."""
    found = await asyncio.get_running_loop().getaddrinfo(host, None, type=socket.SOCK_STREAM)
    return [str(address[0]) for *_, address in found]


class Addresses:
    """The addresses of one service. `current` is replaced, never changed, so iterating over it across awaits is safe.

    A failed look-up changes nothing: the last known addresses stay.
    """

    def __init__(self, service: str, url: str, lookup: Lookup | None = None) -> None:
        self._service = service
        self._hosts = [_host(part) for part in url.split(",") if part.strip()]
        if not self._hosts:
            raise ValueError(f"no address is given for {service}")
        self._lookup = lookup or look_up
        self._tasks: list[asyncio.Task[None]] = []
        self.current = [address for host in self._hosts for address in host.addresses]
        self.authority = self._hosts[0].authority

    def open(self) -> None:
        """Start to look host names up."""
        self._tasks = [asyncio.create_task(self._keep_current(host)) for host in self._hosts if host.needs_lookup]

    def close(self) -> None:
        """Stop the look-ups and close every idle connection."""
        for task in self._tasks:
            task.cancel()
        for address in self.current:
            address.remove()

    async def _keep_current(self, host: _Host) -> None:
        while True:
            await self._update(host)
            await asyncio.sleep(LOOKUP_INTERVAL_S)

    async def _update(self, host: _Host) -> None:
        try:
            async with asyncio.timeout(LOOKUP_TIMEOUT_S):
                found = await self._lookup(host.name)
        except Exception as error:  # noqa: BLE001 - whatever it is, the next look-up must take place
            if not host.lookup_fails:
                log.warning("gateway.lookup.failed", service=self._service, host=host.name, error=repr(error))
            host.lookup_fails = True
            return
        host.lookup_fails = not found
        if found:
            self._replace(host, found)

    def _replace(self, host: _Host, found: Collection[str]) -> None:
        known = {address.host: address for address in host.addresses}
        if known.keys() == set(found):
            return
        stayed = [name for name in known if name in found]
        host.addresses = [known.get(name) or host.address(name) for name in dict.fromkeys([*stayed, *found])]
        self.current = [address for one in self._hosts for address in one.addresses]
        for name in known.keys() - set(found):
            known[name].remove()
        log.info("gateway.addresses.changed", service=self._service, host=host.name, addresses=sorted(found))


def _host(url: str) -> _Host:
    parts = urlsplit(url.strip())
    if parts.scheme != "http" or not parts.hostname or parts.path not in ("", "/"):
        raise ValueError(f"{url!r} is not the address of a service, such as http://127.0.0.1:8003")
    return _Host(parts.hostname, parts.port or 80, parts.netloc.encode("ascii"))
