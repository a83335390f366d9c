"""Compare predict with other model servers in one run: `python -m tests.bench.peers`. Needs wrk.

All servers run at the same time and are measured in turn, in several rounds, so that a change of the machine's speed
meets all of them. Requests per second depend on what else the machine does; CPU time per request hardly does. Writes
the tables into docs/benchmarks.md.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median

from rayonnage_shared.ml.training.requests import TrainRequest
from tests.bench.http import products, train
from tests.bench.load import build_form
from tests.bench.peers.environments import CannotInstall
from tests.bench.peers.peer import OLDER_PATTERN, PEERS, Peer, Server, plain_json, running
from tests.bench.report import write_section
from tests.bench.volumes import train_text_family
from tests.e2e.platform import Platform, running_platform

WRK_SCRIPT = Path(__file__).parent / "wrk.lua"


@dataclass(frozen=True)
class Round:
    """One measurement of one server."""

    per_second: float
    p50_ms: float
    p99_ms: float
    cpu_us: float
    failed: int


@dataclass(frozen=True)
class Form:
    """What a server is sent: the bodies, one after another, and their type."""

    bodies: Sequence[bytes]
    content_type: str = "application/json"


def main() -> None:
    default = str(TrainRequest().text)
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=int, default=5, help="length of each measurement")
    parser.add_argument("--connections", type=int, default=16)
    parser.add_argument("--families", nargs="*", default=["tfidf-svm", default], help="text families to serve")
    parser.add_argument("--only", nargs="*", help="names of peers; default: all")
    parser.add_argument("--no-write", action="store_true", help="print only")
    arguments = parser.parse_args()
    if shutil.which("wrk") is None:
        raise SystemExit("The load generator wrk is missing: apt-get install wrk")
    titles, photos = products()
    sections = []
    with tempfile.TemporaryDirectory(prefix="bench-") as folder:
        base = train(Path(folder) / "trained")
        for family in arguments.families:
            home = Path(folder) / family
            volume = base if family == default else train_text_family(base, home / "trained", family)
            sections.append(_text(family, volume, home, titles, arguments))
            print(sections[-1], flush=True)
        if arguments.only is None or OLDER_PATTERN.name in arguments.only:
            sections.append(_photos(base, Path(folder) / "photos", titles, photos, arguments))
            print(sections[-1], flush=True)
    if not arguments.no_write:
        write_section("peers", "\n\n".join(sections))


@dataclass
class Comparison:
    """The rounds of every server that got the same products, by its name."""

    home: Path
    arguments: argparse.Namespace
    rounds: dict[str, list[Round]] = field(default_factory=dict)
    memory: dict[str, float] = field(default_factory=dict)
    missing: dict[str, str] = field(default_factory=dict)

    def run(self, ours: Sequence[Server], peers: Sequence[Peer], models: Path, form: Callable[[Server], Form]) -> None:
        """Measure all servers in turn, as often as there are rounds; `form` returns what a server is sent."""
        with ExitStack() as stack:
            servers = [
                *ours,
                *(server for peer in peers if not peer.alone for server in self._start(peer, models, stack)),
            ]
            for _ in range(self.arguments.rounds):
                for server in servers:
                    self._add_round(server, form(server))
                for peer in peers:
                    if peer.alone and peer.name not in self.missing:
                        with ExitStack() as turn:
                            for server in self._start(peer, models, turn):
                                self._add_round(server, form(server))

    def _start(self, peer: Peer, models: Path, stack: ExitStack) -> list[Server]:
        try:
            return [stack.enter_context(running(peer, models, self.home / peer.name.replace(" ", "-")))]
        except (CannotInstall, TimeoutError, subprocess.SubprocessError) as error:
            self.missing[peer.name] = str(error)
            return []

    def _add_round(self, server: Server, form: Form) -> None:
        connections, seconds = self.arguments.connections, self.arguments.seconds
        measure(server, form, self.home, seconds=1, connections=connections)  # until its caches and threads are warm
        found = measure(server, form, self.home, seconds=seconds, connections=connections)
        self.rounds.setdefault(server.name, []).append(found)
        self.memory[server.name] = server.megabytes()


def _text(family: str, volume: Path, home: Path, titles: Sequence[str], arguments: argparse.Namespace) -> str:
    comparison = Comparison(home, arguments)
    peers = [peer for peer in PEERS if arguments.only is None or peer.name in arguments.only]
    with running_platform(home / "platform", {}, volume=volume) as platform:
        ours = [_ours(platform, "predict"), _ours(platform, "gateway")]
        comparison.run(ours, peers, volume / "models", lambda server: Form([server.body(title) for title in titles]))
    return _table(f"A title as JSON, `{family}`", comparison)


def _photos(
    volume: Path, home: Path, titles: Sequence[str], photos: Sequence[bytes], arguments: argparse.Namespace
) -> str:
    comparison = Comparison(home, arguments)
    parts = [build_form({"designation": title}, photo) for title, photo in zip(titles, photos, strict=False)]
    form = Form([body for body, _ in parts], parts[0][1])
    with running_platform(home / "platform", {"PREDICT_REPLICAS": "2"}, volume=volume) as platform:
        ours = [_ours(platform, "gateway")]
        comparison.run(ours, [OLDER_PATTERN], volume / "models", lambda server: form)
    return _table("Title and photo as a form, the default models, two replicas of predict", comparison)


def _ours(platform: Platform, service: str) -> Server:
    names = [one.name for one in platform.supervisor.processes if one.service in {"predict", service}]
    pids = [pid for name in names if (pid := platform.pid(name)) is not None]
    name = "**Rayonnage, predict**" if service == "predict" else "**Rayonnage, gateway and predict**"
    port = int(platform.url(service).rpartition(":")[2])
    return Server(name, port, "/predict", plain_json, tuple(pids), platform.admin_token())


def measure(server: Server, form: Form, folder: Path, *, seconds: int, connections: int) -> Round:
    """Send the bodies in turn with wrk over `connections` connections, and return what came of it."""
    bodies = folder / "bodies"
    bodies.write_bytes(b"".join(f"{len(body):010d}".encode() + body for body in form.bodies))
    headers = ["-H", f"Content-Type: {form.content_type}"]
    if server.token is not None:
        headers += ["-H", f"Authorization: Bearer {server.token}"]
    limits = ["--threads", "1", "--connections", str(connections), "--duration", f"{seconds}s", "--timeout", "10s"]
    url = f"http://127.0.0.1:{server.port}{server.path}"
    before = server.cpu_seconds()
    done = subprocess.run(
        ["wrk", *limits, "--script", str(WRK_SCRIPT), *headers, url],
        env={**os.environ, "BENCH_BODIES": str(bodies)},
        check=True,
        capture_output=True,
        text=True,
        timeout=seconds + 60,
    )
    cpu_s = server.cpu_seconds() - before
    found = json.loads(done.stdout.strip().splitlines()[-1])
    answers = found["answers"] - found["failed"]
    return Round(
        per_second=1e6 * answers / found["microseconds"],
        p50_ms=found["p50_ms"],
        p99_ms=found["p99_ms"],
        cpu_us=1e6 * cpu_s / answers if answers else float("inf"),
        failed=found["failed"],
    )


def _table(title: str, comparison: Comparison) -> str:
    arguments, rounds = comparison.arguments, comparison.rounds
    first = median(one.cpu_us for one in next(iter(rounds.values())))
    lines = [
        f"{title}, {arguments.connections} connections, medians of {arguments.rounds} rounds of "
        f"{arguments.seconds} s (lowest to highest):",
        "",
        "| server | requests/s | p50 ms | p99 ms | CPU µs per request | CPU, first row = 1 | memory, MB | failed |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for name, found in rounds.items():
        rates, costs = [one.per_second for one in found], [one.cpu_us for one in found]
        lines.append(
            f"| {name} | {median(rates):.0f} ({min(rates):.0f}–{max(rates):.0f}) | "
            f"{median(one.p50_ms for one in found):.1f} | {median(one.p99_ms for one in found):.1f} | "
            f"{median(costs):.0f} ({min(costs):.0f}–{max(costs):.0f}) | {median(costs) / first:.2f} | "
            f"{comparison.memory[name]:.0f} | {sum(one.failed for one in found)} |"
        )
    lines += [f"| {name} | not run: {reason} | | | | | | |" for name, reason in comparison.missing.items()]
    return "\n".join(lines)


if __name__ == "__main__":
    main()
