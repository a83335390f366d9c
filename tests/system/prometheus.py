"""A throw-away Prometheus for tests, from the distribution's own package."""

from __future__ import annotations

import contextlib
import json
import shutil
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx2

from tests.processes import killed_at_end
from tests.waiting import PATIENCE_S

BINARY = "prometheus"
STARTS_WITHIN_S = 30


class PrometheusMissing(Exception):
    """The binary is not installed."""


def configuration(targets: Mapping[str, Sequence[str]]) -> str:
    """Return a configuration that scrapes the addresses of each job once a second (JSON is YAML)."""
    scrapes = [
        {
            "job_name": job,
            "metrics_path": urlsplit(urls[0]).path,
            "static_configs": [{"targets": [urlsplit(url).netloc for url in urls]}],
        }
        for job, urls in targets.items()
    ]
    return json.dumps({"global": {"scrape_interval": "1s", "scrape_timeout": "1s"}, "scrape_configs": scrapes})


@contextlib.contextmanager
def prometheus(folder: Path, port: int, targets: Mapping[str, Sequence[str]]) -> Iterator[httpx2.Client]:
    """Yield a client of a Prometheus that scrapes `targets`; it ends with the block. Raises PrometheusMissing."""
    with configured_prometheus(folder, port, configuration(targets)) as client:
        yield client


@contextlib.contextmanager
def configured_prometheus(folder: Path, port: int, text: str) -> Iterator[httpx2.Client]:
    """Yield a client of a Prometheus with this configuration, whose relative paths begin at `folder`."""
    binary = shutil.which(BINARY)
    if binary is None:
        raise PrometheusMissing("Tests marked `system` need Prometheus: apt-get install prometheus")
    (folder / "prometheus.yml").write_text(text, encoding="utf-8")
    command = [
        binary,
        f"--config.file={folder / 'prometheus.yml'}",
        f"--storage.tsdb.path={folder / 'data'}",
        f"--web.listen-address=127.0.0.1:{port}",
        "--log.level=warn",
    ]
    with (
        (folder / "output").open("w+") as output,
        killed_at_end(subprocess.Popen(command, cwd=folder, stdout=output, stderr=output)) as process,
        httpx2.Client(base_url=f"http://127.0.0.1:{port}", timeout=PATIENCE_S) as client,
    ):
        _wait_until_ready(client, process, folder / "output")
        yield client


def query(client: httpx2.Client, expression: str) -> list[dict[str, Any]]:
    """Return the series that the expression gives now, each with `metric` and `value`."""
    answer = client.get("/api/v1/query", params={"query": expression})
    answer.raise_for_status()
    found: list[dict[str, Any]] = answer.json()["data"]["result"]
    return found


def _wait_until_ready(client: httpx2.Client, process: subprocess.Popen[bytes], output: Path) -> None:
    deadline = time.monotonic() + STARTS_WITHIN_S
    while True:
        with contextlib.suppress(httpx2.TransportError):
            if client.get("/-/ready").status_code == 200:
                return
        if process.poll() is not None or time.monotonic() > deadline:
            raise RuntimeError(f"Prometheus did not start: {output.read_text()}")
        time.sleep(0.05)
