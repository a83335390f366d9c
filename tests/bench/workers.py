"""What a second worker of predict is worth: `python -m tests.bench.workers`. Ratios count; machines differ.

One worker and two stand side by side, and are asked in turn, several rounds, so that a machine whose speed moves treats
both alike; between them the same model without HTTP in two processes. Medians of the rounds.
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path
from statistics import median

from rayonnage_shared.core import host
from rayonnage_shared.ops.supervision import MARK
from tests.bench.http import form_requests, json_requests, products, train
from tests.bench.in_process import predictions_per_second
from tests.bench.load import run_load
from tests.e2e.platform import Platform, running_platform

CONNECTIONS = 16
WORKERS = (1, 2)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=3.0, help="length of each run")
    parser.add_argument("--rounds", type=int, default=5)
    arguments = parser.parse_args()
    titles, photos = products()
    with tempfile.TemporaryDirectory(prefix="rayonnage-bench-") as folder:
        home = Path(folder)
        volume = train(home / "trained")
        one, two = ({"PREDICT_WORKERS": str(count), "PREDICT_THREADS": str(3 - count)} for count in WORKERS)
        with (
            running_platform(home / "one", one, volume=volume) as first,
            running_platform(home / "two", two, volume=volume) as second,
        ):
            print(
                "| predict, 16 connections | 1 worker | 2 workers | ratio | without HTTP, 2 processes | share of that |"
            )
            print("|---|---|---|---|---|---|", flush=True)
            for kind, some in (("text, JSON", None), ("title + photo, form", photos)):
                rates: list[list[float]] = [[], [], []]
                for _ in range(arguments.rounds):
                    for platform, into in zip((first, second), rates, strict=False):
                        token = platform.admin_token()
                        requests = form_requests(titles, some, token) if some else json_requests(titles, token)
                        port = int(platform.url("predict").rpartition(":")[2])
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
            print(f"\nmemory of all of predict's processes: {_megabytes(first):.0f} MB, {_megabytes(second):.0f} MB")


def _megabytes(platform: Platform) -> float:
    """Return the memory that predict's processes have for themselves, and their part of what they share."""
    found = 0
    for pid in host.marked(MARK, str(platform.supervisor.folder)):
        if host.command_line(pid).endswith("-m rayonnage_predict"):
            text = Path(f"/proc/{pid}/smaps_rollup").read_text(encoding="ascii")
            found += next(int(line.split()[1]) for line in text.splitlines() if line.startswith("Pss:"))
    return found / 1024


if __name__ == "__main__":
    main()
