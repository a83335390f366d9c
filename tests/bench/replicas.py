"""Measure what a second replica of predict adds: `python -m tests.bench.replicas`. Compare only ratios within one run.

Sends requests through the gateways of two platforms, with one and with two replicas, in turn and in several rounds, so
that changes in the machine's speed affect both. In each round the same model also runs without HTTP in two processes.
Writes the medians of the rounds into docs/benchmarks.md.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path
from statistics import median

import httpx2
import psutil

from rayonnage_shared.ops.prometheus_text import Readings
from tests.bench.http import form_requests, json_requests, products, train
from tests.bench.in_process import predictions_per_second
from tests.bench.load import run_load
from tests.bench.report import write_section
from tests.e2e.platform import Platform, running_platform

CONNECTIONS = 16
REPLICAS = (1, 2)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=3.0, help="length of each run")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--no-write", action="store_true", help="print only")
    arguments = parser.parse_args()
    titles, photos = products()
    with tempfile.TemporaryDirectory(prefix="rayonnage-bench-") as folder:
        home = Path(folder)
        volume = train(home / "trained")
        one, two = (
            # On a busy machine, some of the 16 requests wait longer than the platform usually allows.
            {"PREDICT_REPLICAS": str(count), "PREDICT_THREADS": str(3 - count), "PREDICT_MAX_WAIT_S": "30"}
            for count in REPLICAS
        )
        with (
            running_platform(home / "one", one, volume=volume) as first,
            running_platform(home / "two", two, volume=volume) as second,
        ):
            lines = [
                "| requests/s at the gateway, 16 connections | 1 replica | 2 replicas | ratio "
                "| without HTTP, 2 processes | share of that | requests of each replica "
                "| CPU µs: predict | CPU µs: gateway |",
                "|---|---|---|---|---|---|---|---|---|",
            ]
            for kind, some in (("text, JSON", None), ("title + photo, form", photos)):
                rates: list[list[float]] = [[], [], []]
                served, answered = _predictions(second), 0
                costs = dict.fromkeys(("predict", "gateway"), 0.0)
                for _ in range(arguments.rounds):
                    for platform, into in zip((first, second), rates, strict=False):
                        token = platform.admin_token()
                        requests = form_requests(titles, some, token) if some else json_requests(titles, token)
                        port = int(platform.url("gateway").rpartition(":")[2])
                        before = {name: _cpu_s(platform, name) for name in costs}
                        found = run_load(port, requests, connections=CONNECTIONS, seconds=arguments.seconds)
                        assert set(found.statuses) == {200} and not found.broken, found.statuses
                        into.append(found.per_second)
                        if platform is second:
                            answered += found.statuses[200]
                            for name in costs:
                                costs[name] += _cpu_s(platform, name) - before[name]
                    models = volume / "models"
                    rates[2].append(
                        predictions_per_second(models, titles, some, processes=2, seconds=arguments.seconds)
                    )
                alone, both, limit = map(median, rates)
                each = [now - then for then, now in zip(served, _predictions(second), strict=True)]
                predict, gateway = (1e6 * cost / answered for cost in costs.values())
                lines.append(
                    f"| {kind} | {alone:.0f} | {both:.0f} | {both / alone:.2f} | {limit:.0f} "
                    f"| {100 * both / limit:.0f} % | {each[0]:.0f} and {each[1]:.0f} | {predict:.0f} | {gateway:.0f} |"
                )
                print(lines[-1], flush=True)
            lines += ["", f"Memory of all replicas: {_megabytes(first):.0f} MB, {_megabytes(second):.0f} MB."]
            print(lines[-1])
    if not arguments.no_write:
        write_section("replicas", "\n".join(lines))


def _predictions(platform: Platform) -> list[float]:
    """Return how many predictions each replica has made."""
    return [
        Readings.of(httpx2.get(platform.metrics_url(name)).text).total("rayonnage_predictions_total") or 0.0
        for name in _names(platform, "predict")
    ]


def _cpu_s(platform: Platform, service: str) -> float:
    """Return the CPU time that the processes of a service have used, in seconds."""
    times = [psutil.Process(platform.pid(name)).cpu_times() for name in _names(platform, service)]
    return float(sum(one.user + one.system for one in times))


def _names(platform: Platform, service: str) -> list[str]:
    return [one.name for one in platform.supervisor.processes if one.service == service]


def _megabytes(platform: Platform) -> float:
    """Return the memory of all replicas: their own, and their part of shared pages (PSS)."""
    pids = [platform.pid(name) for name in _names(platform, "predict")]
    return float(sum(psutil.Process(pid).memory_full_info().pss for pid in pids)) / 2**20


if __name__ == "__main__":
    main()
