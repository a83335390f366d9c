"""Measure what the gateway costs: `python -m tests.bench.gateway`. Needs nginx and haproxy for their rows.

Every proxy stands before the same stub service and is measured in turn, in several rounds. CPU time per request is
that of the proxy's processes alone, from /proc. Writes the table into docs/benchmarks.md.
"""

from __future__ import annotations

import argparse
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median

import httpx2

from tests.bench.http import form_requests, json_requests, products
from tests.bench.load import run_load
from tests.bench.peers.environments import REPOSITORY, CannotInstall, environment, python_of
from tests.bench.peers.peer import Server, plain_json
from tests.bench.report import write_section
from tests.ports import free_port
from tests.tokens import SECRET, token

CONNECTIONS = 16
_UVICORN = ("-m", "uvicorn", "--host", "127.0.0.1", "--no-access-log", "--log-level", "warning", "--lifespan", "off")
_NGINX = """
daemon off; worker_processes 1; pid {folder}/nginx.pid; error_log stderr warn;
events {{ worker_connections 1024; }}
http {{
    access_log off;
    client_body_temp_path {folder}/body; proxy_temp_path {folder}/proxy; fastcgi_temp_path {folder}/fastcgi;
    uwsgi_temp_path {folder}/uwsgi; scgi_temp_path {folder}/scgi;
    client_max_body_size 11m; client_body_buffer_size 512k;
    upstream service {{ server 127.0.0.1:{service}; keepalive 64; }}
    server {{
        listen 127.0.0.1:{port};
        keepalive_requests 1000000;
        location / {{ proxy_http_version 1.1; proxy_set_header Connection ""; proxy_pass http://service; }}
    }}
}}
"""
_HAPROXY = """
global
    nbthread 1
defaults
    mode http
    http-reuse always
    timeout connect 2s
    timeout client 30s
    timeout server 15s
frontend entry
    bind 127.0.0.1:{port}
    default_backend service
backend service
    server stub 127.0.0.1:{service}
"""


@dataclass
class Proxy:
    """The rounds of one proxy: CPU µs and requests per second by kind of request."""

    name: str
    start: Callable[[int, Path], tuple[list[str], Mapping[str, str], int]]
    cpu_us: dict[str, list[float]] = field(default_factory=dict)
    rates: dict[str, list[float]] = field(default_factory=dict)
    missing: str | None = None


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=2.0, help="length of each measurement")
    parser.add_argument("--only", nargs="*", help="names of proxies; default: all")
    parser.add_argument("--no-write", action="store_true", help="print only")
    parser.add_argument("--profile", action="store_true", help="print instead where the gateway's CPU time goes")
    arguments = parser.parse_args()
    titles, photos = products()
    kinds = {
        "text": json_requests(titles, token()),
        "photo": form_requests(titles, photos, token()),
    }
    if arguments.profile:
        _print_profile(kinds["text"], arguments.seconds)
        return
    proxies = [proxy for proxy in _proxies() if arguments.only is None or proxy.name in arguments.only]
    with tempfile.TemporaryDirectory(prefix="bench-") as folder, ExitStack() as stack:
        service = stack.enter_context(_stub())
        servers: dict[str, Server] = {}
        for number, proxy in enumerate(proxies):
            home = Path(folder) / str(number)
            home.mkdir()
            try:
                command, variables, port = proxy.start(service, home)
                servers[proxy.name] = stack.enter_context(_running(proxy.name, command, variables, port))
            except (CannotInstall, OSError, TimeoutError) as error:
                proxy.missing = str(error)
        for _ in range(arguments.rounds):
            for kind, requests in kinds.items():
                for proxy in proxies:
                    if proxy.name in servers:
                        _measure(proxy, servers[proxy.name], kind, requests, arguments.seconds)
    table = _table(proxies, arguments)
    print(table)
    if not arguments.no_write:
        write_section("gateway", table)


def _print_profile(requests: list[bytes], seconds: float) -> None:
    with tempfile.TemporaryDirectory(prefix="bench-") as folder, _stub() as service:
        _command, variables, port = _gateway(service, Path(folder))
        found = Path(folder) / "profile.md"
        command = [sys.executable, "-m", "tests.bench.proxies.profiled", str(found)]
        with _running("gateway", command, variables, port) as server:
            run_load(port, requests, connections=CONNECTIONS, seconds=0.5)
            os.kill(server.pids[0], signal.SIGUSR1)
            run_load(port, requests, connections=CONNECTIONS, seconds=seconds)
            os.kill(server.pids[0], signal.SIGUSR2)
            deadline = time.monotonic() + 10
            while not found.exists() and time.monotonic() < deadline:
                time.sleep(0.1)
            print(found.read_text())


@contextmanager
def _stub() -> Iterator[int]:
    port = free_port()
    command = [sys.executable, *_UVICORN, "--port", str(port), "tests.bench.proxies.stub:app"]
    with _running("stub", command, {}, port):
        yield port


def _proxies() -> list[Proxy]:
    return [
        Proxy("gateway", _gateway),
        Proxy("no proxy: uvicorn answers by itself", _client("nothing")),
        Proxy("only the gateway's own HTTP client", _client("own")),
        Proxy("aiohttp in its place", _client("aiohttp")),
        Proxy("pyreqwest in its place", _client("pyreqwest")),
        Proxy("nginx", _configured("nginx", _NGINX, "nginx", "-e", "stderr", "-c")),
        Proxy("HAProxy", _configured("haproxy", _HAPROXY, "haproxy", "-f")),
    ]


def _gateway(service: int, home: Path) -> tuple[list[str], Mapping[str, str], int]:
    port = free_port()
    url = f"http://127.0.0.1:{service}"
    names = ("AUTH_URL", "INGEST_URL", "TRAIN_URL", "PREDICT_URL")
    settings = {
        "ALGORITHM": "HS256",
        "SECRET_KEY": SECRET,
        "GATEWAY_PORT": str(port),
        "GATEWAY_METRICS_PORT": "0",
        "PREDICT_RATE_LIMIT": "1000000000/minute",  # counted, never reached
        "LOGS_PATH": str(home / "logs"),
        "LOG_TO_STDOUT": "false",
        "LOG_LEVEL": "info",
        **dict.fromkeys(names, url),
    }
    return [sys.executable, "-m", "rayonnage_gateway"], settings, port


def _client(name: str) -> Callable[[int, Path], tuple[list[str], Mapping[str, str], int]]:
    def start(service: int, _home: Path) -> tuple[list[str], Mapping[str, str], int]:
        port = free_port()
        python = str(python_of("clients"))
        variables = {**environment("clients"), "BENCH_SERVICE": f"http://127.0.0.1:{service}"}
        variables["PYTHONPATH"] += f":{REPOSITORY / 'services' / 'gateway'}"
        return [python, *_UVICORN, "--port", str(port), f"tests.bench.proxies.clients:{name}"], variables, port

    return start


def _configured(
    program: str, configuration: str, *command: str
) -> Callable[[int, Path], tuple[list[str], Mapping[str, str], int]]:
    def start(service: int, home: Path) -> tuple[list[str], Mapping[str, str], int]:
        if shutil.which(program) is None:
            raise CannotInstall(f"apt-get install {program}")
        port = free_port()
        file = home / "configuration"
        file.write_text(configuration.format(folder=home, service=service, port=port))
        return [*command, str(file)], {}, port

    return start


@contextmanager
def _running(name: str, command: list[str], variables: Mapping[str, str], port: int) -> Iterator[Server]:
    process = subprocess.Popen(command, cwd=REPOSITORY, env={**os.environ, **variables})
    try:
        deadline = time.monotonic() + 60
        while True:
            try:
                httpx2.get(f"http://127.0.0.1:{port}/health/live", timeout=5)
                break
            except httpx2.HTTPError:
                if time.monotonic() > deadline or process.poll() is not None:
                    raise TimeoutError(f"{name} does not answer") from None
                time.sleep(0.1)
        yield Server(name, port, "/predict", plain_json, (process.pid,))
    finally:
        process.terminate()
        process.wait(20)


def _measure(proxy: Proxy, server: Server, kind: str, requests: list[bytes], seconds: float) -> None:
    run_load(server.port, requests, connections=CONNECTIONS, seconds=0.3)
    before = server.cpu_seconds()
    found = run_load(server.port, requests, connections=CONNECTIONS, seconds=seconds)
    cpu_s = server.cpu_seconds() - before
    if set(found.statuses) != {200} or found.broken:
        raise RuntimeError(f"{proxy.name}: {dict(found.statuses)}, {found.broken} broken")
    proxy.cpu_us.setdefault(kind, []).append(1e6 * cpu_s / found.statuses[200])
    proxy.rates.setdefault(kind, []).append(found.per_second)


def _table(proxies: list[Proxy], arguments: argparse.Namespace) -> str:
    lines = [
        f"CPU µs per request of the proxy alone, {CONNECTIONS} connections, medians of {arguments.rounds} rounds of "
        f"{arguments.seconds:g} s (lowest to highest):",
        "",
        "| proxy before a stub service | text, 0.2 kB | title and photo, 44 kB | text, requests/s |",
        "|---|---|---|---|",
    ]
    for proxy in proxies:
        if proxy.missing is not None:
            lines.append(f"| {proxy.name} | not run: {proxy.missing} | | |")
            continue
        costs = [
            f"{median(found):.0f} ({min(found):.0f}–{max(found):.0f})"
            for found in (proxy.cpu_us["text"], proxy.cpu_us["photo"])
        ]
        lines.append(f"| {proxy.name} | {costs[0]} | {costs[1]} | {median(proxy.rates['text']):.0f} |")
    return "\n".join(lines)


if __name__ == "__main__":
    main()
