"""Measure what a second replica of predict adds: `python -m tests.bench.replicas`. Compare only ratios within one run.

Sends requests through the gateways of two platforms, with one and with two replicas, in turn and in several rounds, so
that changes in the machine's speed affect both. In each round the same model also runs without HTTP in two processes.
Prints the medians of the rounds.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path
from statistics import median

import psutil

from tests.bench.http import form_requests, json_requests, products, train
from tests.bench.in_process import predictions_per_second
from tests.bench.load import run_load
from tests.e2e.platform import Platform, running_platform

CONNECTIONS = 16
REPLICAS = (1, 2)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=3.0, help="length of each run")
    parser.add_argument("--rounds", type=int, default=5)
    arguments = parser.parse_args()
    titles, photos = products()
    with tempfile.TemporaryDirectory(prefix="rayonnage-bench-") as folder:
        home = Path(folder)
        volume = train(home / "trained")
        one, two = ({"PREDICT_REPLICAS": str(count), "PREDICT_THREADS": str(3 - count)} for count in REPLICAS)
        with (
            running_platform(home / "one", one, volume=volume) as first,
            running_platform(home / "two", two, volume=volume) as second,
        ):
            print(
                "| requests/s at the gateway, 16 connections | 1 replica | 2 replicas | ratio "
                "| without HTTP, 2 processes | share of that |"
            )
            print("|---|---|---|---|---|---|", flush=True)
            for kind, some in (("text, JSON", None), ("title + photo, form", photos)):
                rates: list[list[float]] = [[], [], []]
                for _ in range(arguments.rounds):
                    for platform, into in zip((first, second), rates, strict=False):
                        token = platform.admin_token()
                        requests = form_requests(titles, some, token) if some else json_requests(titles, token)
                        port = int(platform.url("gateway").rpartition(":")[2])
                        found = run_load(port, requests, connections=CONNECTIONS, seconds=arguments.seconds)
                        assert set(found.statuses) == {200} and not found.broken, found.statuses
                        into.append(found.per_second)
                    models = volume / "models"
                    rates[2].append(
                        predictions_per_second(models, titles, some, processes=2, seconds=arguments.seconds)
                    )
                alone, both, limit = map(median, rates)
                share = 100 * both / limit
                print(
                    f"| {kind} | {alone:.0f} | {both:.0f} | {both / alone:.2f} | {limit:.0f} | {share:.0f} % |",
                    flush=True,
                )
            print(f"\nmemory of all replicas: {_megabytes(first):.0f} MB, {_megabytes(second):.0f} MB")


def _megabytes(platform: Platform) -> float:
    """Return the memory of all replicas: their own, and their part of shared pages (PSS)."""
    pids = [platform.pid(one.name) for one in platform.supervisor.processes if one.service == "predict"]
    return float(sum(psutil.Process(pid).memory_full_info().pss for pid in pids)) / 2**20


if __name__ == "__main__":
    main()
