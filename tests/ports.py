"""Ports for servers that a test starts, whichever other tests run at the same time."""

from __future__ import annotations

import contextlib
import os
import socket
from collections.abc import Iterator

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


def free_ports(count: int) -> list[int]:
    """Return ports that nobody listens on, each of them given out once."""
    found: list[int] = []
    while len(found) < count:
        port = next(_candidates)
        with contextlib.suppress(OSError), socket.create_server(("127.0.0.1", port)):
            found.append(port)
    return found


def free_port() -> int:
    """Return a port that nobody listens on."""
    return free_ports(1)[0]
