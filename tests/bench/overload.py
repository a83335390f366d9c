"""Measure predict at twice its capacity: `python -m tests.bench.overload`. Writes docs/benchmarks.md.

Forms with photos arrive at fixed times, whatever happened to those before; a caller gives up after a second. Good
answers are those with status 200 in time. Beside them, `/health/live` is asked ten times a second. The last row has 512
connections that all ask at once, and again a second after a refusal; half of the callers hang up after 50 ms.
"""

from __future__ import annotations

import argparse
import asyncio
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import uvloop

from tests.bench.http import products, train
from tests.bench.load import Client, run_load
from tests.bench.predict_alone import Server, predict_alone
from tests.bench.report import write_section
from tests.bench.stages import Requests

GIVES_UP_AFTER_S = 1.0
HANGS_UP_AFTER_S = 0.05
HEALTH_EVERY_S = 0.1
HEALTH = b"GET /health/live HTTP/1.1\r\nHost: 127.0.0.1\r\n\r\n"
CROWD = 512


@dataclass
class Outcome:
    """What became of the requests: seconds of good answers, of refusals and of health answers."""

    good: list[float] = field(default_factory=list)
    refused: list[float] = field(default_factory=list)
    health: list[float] = field(default_factory=list)
    others: Counter[str] = field(default_factory=Counter)
    seconds: float = 0.0

    def row(self, name: str, capacity: float) -> str:
        """Return a row of the table."""
        rate = len(self.good) / self.seconds
        cells = [
            f"{rate:.0f} ({100 * rate / capacity:.0f} %)",
            f"{1000 * _quantile(self.good, 0.99):.0f}",
            f"{len(self.refused) / self.seconds:.0f}",
            f"{1000 * _quantile(self.refused, 0.99):.0f}",
            f"{1000 * _quantile(self.health, 0.99):.0f}",
            ", ".join(f"{count} {name}" for name, count in self.others.items()) or "none",
        ]
        return f"| {name} | {' | '.join(cells)} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=15.0)
    parser.add_argument("--volume", type=Path, help="data and models to serve; default: the sample's")
    parser.add_argument("--no-write", action="store_true", help="print only")
    arguments = parser.parse_args()
    titles, photos = products()
    with tempfile.TemporaryDirectory(prefix="bench-") as folder:
        volume = arguments.volume or train(Path(folder) / "trained")
        with predict_alone(volume, Path(folder) / "run", {"PREDICT_MAX_WAIT_S": "0.75"}) as server:
            sent = Requests(titles, photos).built(server.token)
            run_load(server.port, sent, connections=4, seconds=2.0)
            capacity = run_load(server.port, sent, connections=4, seconds=arguments.seconds / 3).per_second
            lines = [
                f"| capacity {capacity:.0f}/s | good answers/s (of the capacity) | p99 ms | refused/s | p99 ms "
                "| `/health/live` p99 ms | other ends |",
                "|---|---|---|---|---|---|---|",
            ]
            for share in (0.7, 2.0):
                found = uvloop.run(arrivals(server, sent, share * capacity, arguments.seconds))
                lines.append(found.row(f"{share:g} × the capacity", capacity))
            found = uvloop.run(crowd(server, sent, arguments.seconds))
            lines.append(found.row(f"{CROWD} connections", capacity))
    print("\n".join(lines))
    if not arguments.no_write:
        write_section("overload", "\n".join(lines))


async def arrivals(server: Server, requests: Sequence[bytes], per_second: float, seconds: float) -> Outcome:
    """Send requests at fixed times for `seconds`, and return what became of them."""
    outcome, idle = Outcome(), list[Client]()
    async with asyncio.TaskGroup() as group:
        watching = group.create_task(_watch_health(server, outcome))
        began = time.perf_counter()
        callers = []
        for number in range(int(per_second * seconds)):
            await asyncio.sleep(began + number / per_second - time.perf_counter())
            request = requests[number % len(requests)]
            callers.append(group.create_task(_ask(server, request, outcome, idle, GIVES_UP_AFTER_S)))
        await asyncio.wait(callers)
        outcome.seconds = time.perf_counter() - began
        watching.cancel()
    for client in idle:
        client.close()
    return outcome


async def crowd(server: Server, requests: Sequence[bytes], seconds: float) -> Outcome:
    """Have all connections ask again and again for `seconds`; half of the callers hang up and come back."""
    outcome = Outcome()
    began = time.perf_counter()

    async def caller(number: int) -> None:
        idle = list[Client]()
        patience = HANGS_UP_AFTER_S if number % 2 else GIVES_UP_AFTER_S
        while time.perf_counter() - began < seconds:
            good = len(outcome.good)
            await _ask(server, requests[number % len(requests)], outcome, idle, patience)
            await asyncio.sleep(0.0 if len(outcome.good) > good else 1.0)  # as `Retry-After` says
        for client in idle:
            client.close()

    async with asyncio.TaskGroup() as group:
        watching = group.create_task(_watch_health(server, outcome))
        await asyncio.wait([group.create_task(caller(number)) for number in range(CROWD)])
        outcome.seconds = time.perf_counter() - began
        watching.cancel()
    return outcome


async def _ask(server: Server, request: bytes, outcome: Outcome, idle: list[Client], patience_s: float) -> None:
    began = time.perf_counter()
    client: Client | None = None
    try:
        async with asyncio.timeout(patience_s):
            client = idle.pop() if idle else await _connected(server)
            status = await client.ask(request)
    except TimeoutError:
        outcome.others["given up"] += 1
    except OSError:
        outcome.others["broken"] += 1
    else:
        spent = time.perf_counter() - began
        if status == 200:
            outcome.good.append(spent)
        elif status == 503:
            outcome.refused.append(spent)
        else:
            outcome.others[str(status)] += 1
        idle.append(client)
        return
    if client is not None:
        client.close()


async def _watch_health(server: Server, outcome: Outcome) -> None:
    client = await _connected(server)
    try:
        while True:
            began = time.perf_counter()
            assert await client.ask(HEALTH) == 200
            outcome.health.append(time.perf_counter() - began)
            await asyncio.sleep(HEALTH_EVERY_S)
    finally:
        client.close()


async def _connected(server: Server) -> Client:
    _, client = await asyncio.get_running_loop().create_connection(Client, "127.0.0.1", server.port)
    return client


def _quantile(values: list[float], share: float) -> float:
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))] if ordered else float("nan")


if __name__ == "__main__":
    main()
