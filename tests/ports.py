"""Ports for servers that a test starts, whichever other tests run at the same time."""

from __future__ import annotations

import contextlib
import os
import socket
from collections.abc import Iterator

from rayonnage_shared.core.processes import REPLICA_PORT_STEP

# Below the range from which systems take the local ports of outgoing connections: one of those could hold the port of
# a server that a test starts, or has killed and starts again.
_FIRST, _LAST = 10_000, 32_000


def _from_a_place_of_its_own() -> Iterator[int]:
    """Yield all ports of the range over and over, in each process from another one on."""
    count = _LAST - _FIRST
    start = os.getpid() * 101 % count
    while True:
        for step in range(count):
            yield _FIRST + (start + step) % count


_candidates = _from_a_place_of_its_own()
_given: set[int] = set()


def free_ports(count: int) -> list[int]:
    """Return ports that nobody listens on, each of them given out once."""
    found: list[int] = []
    while len(found) < count:
        port = next(_candidates)
        if _is_free(port):
            found.append(port)
    _given.update(found)
    return found


def free_ports_of_replicas(count: int) -> int:
    """Return the first of the ports of `count` replicas: nobody listens on them, and none is given out again."""
    while True:
        first = next(_candidates)
        ports = [first + REPLICA_PORT_STEP * number for number in range(count)]
        if all(map(_is_free, ports)):
            _given.update(ports)
            return first


def _is_free(port: int) -> bool:
    if port not in _given:
        with contextlib.suppress(OSError), socket.create_server(("127.0.0.1", port)):
            return True
    return False


def free_port() -> int:
    """Return a port that nobody listens on."""
    return free_ports(1)[0]
