"""Where a service is: addresses as they are given, and names that may stand for several, looked up again and again."""

from __future__ import annotations

import asyncio
import ipaddress
import socket
from collections.abc import Awaitable, Callable, Collection
from dataclasses import dataclass, field
from urllib.parse import urlsplit

import structlog

from rayonnage_gateway.connection import Connection

LOOK_UP_EVERY_S = 1.0
LOOK_UP_WITHIN_S = 10.0  # the C library gives a name server up after as long; abandoned look-ups would only queue there

log = structlog.get_logger()

Lookup = Callable[[str], Awaitable[Collection[str]]]
"""Returns the addresses that a host name stands for. Raises OSError."""


@dataclass(slots=True, eq=False)
class Address:
    """One process of a service."""

    host: str
    port: int
    authority: bytes
    idle: list[Connection] = field(default_factory=list)
    in_flight: int = 0
    avoided_until: float = 0.0
    left: bool = False
    """Its name does not stand for it any more: no connection to it is kept."""


@dataclass(slots=True, eq=False)
class _Place:
    """One part of the setting, and the addresses that it stands for now: until it is looked up, itself."""

    host: str
    port: int
    authority: bytes
    addresses: list[Address] = field(init=False)
    unknown: bool = False

    def __post_init__(self) -> None:
        self.addresses = [self.address(self.host)]

    def address(self, host: str) -> Address:
        return Address(host, self.port, self.authority)

    @property
    def is_name(self) -> bool:
        try:
            ipaddress.ip_address(self.host)
        except ValueError:
            return True
        return False


async def look_up(host: str) -> Collection[str]:
    """Ask the system's resolver."""
    found = await asyncio.get_running_loop().getaddrinfo(host, None, type=socket.SOCK_STREAM)
    return [str(address[0]) for *_, address in found]


class Addresses:
    """The addresses of one service; `current` is replaced, never changed, so whoever goes through it may wait.

    A look-up that fails changes nothing: what was known stays. `on_left` hears of an address that is not among the
    current ones any more.
    """

    def __init__(
        self, service: str, url: str, on_left: Callable[[Address], None], lookup: Lookup | None = None
    ) -> None:
        self._service = service
        self._places = [_place(part) for part in url.split(",") if part.strip()]
        if not self._places:
            raise ValueError(f"no address is given for {service}")
        self._on_left = on_left
        self._lookup = lookup or look_up
        self._followers: list[asyncio.Task[None]] = []
        self.current = [address for place in self._places for address in place.addresses]
        self.authority = self._places[0].authority

    def open(self) -> None:
        """Begin to follow the names."""
        self._followers = [asyncio.create_task(self._follow(place)) for place in self._places if place.is_name]

    def close(self) -> None:
        """Follow the names no more."""
        for task in self._followers:
            task.cancel()

    async def _follow(self, place: _Place) -> None:
        while True:
            hosts: Collection[str] = ()
            try:
                async with asyncio.timeout(LOOK_UP_WITHIN_S):
                    hosts = await self._lookup(place.host)
            except (OSError, UnicodeError) as error:  # TimeoutError is an OSError
                if not place.unknown:
                    log.warning("gateway.lookup_failed", service=self._service, host=place.host, error=str(error))
            place.unknown = not hosts
            if hosts:
                self._replace(place, hosts)
            await asyncio.sleep(LOOK_UP_EVERY_S)

    def _replace(self, place: _Place, hosts: Collection[str]) -> None:
        known = {address.host: address for address in place.addresses}
        if known.keys() == set(hosts):
            return
        stayed = [host for host in known if host in hosts]
        place.addresses = [known.get(host) or place.address(host) for host in dict.fromkeys([*stayed, *hosts])]
        self.current = [address for one in self._places for address in one.addresses]
        for host in known.keys() - set(hosts):
            known[host].left = True
            self._on_left(known[host])
        log.info("gateway.addresses_changed", service=self._service, host=place.host, addresses=sorted(hosts))


def _place(url: str) -> _Place:
    parts = urlsplit(url.strip())
    if parts.scheme != "http" or not parts.hostname or parts.path not in ("", "/"):
        raise ValueError(f"{url!r} is not the address of a service, such as http://127.0.0.1:8003")
    return _Place(parts.hostname, parts.port or 80, parts.netloc.encode("ascii"))
