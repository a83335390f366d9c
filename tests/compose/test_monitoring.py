"""Prometheus sees everything that runs, and an alert reaches the webhook."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler
from typing import Any

import httpx2
import pytest

from tests.compose.stack import PROJECT, Stack
from tests.http_server import serving
from tests.waiting import eventually

pytestmark = [pytest.mark.compose, pytest.mark.timeout(900)]

PAGED_WITHIN_S = 120
SECRET_PATH = "/services/T0/B0/secret"


def targets(platform: Stack) -> dict[str, str]:
    """Return the health of each job's targets; `up` only where all are."""
    url = f"http://127.0.0.1:{platform.values['PROMETHEUS_PORT']}/api/v1/targets?state=active"
    found: dict[str, str] = {}
    for target in httpx2.get(url, timeout=10).json()["data"]["activeTargets"]:
        job = target["labels"]["job"]
        found[job] = target["health"] if found.get(job, "up") == "up" else found[job]
    return found


def test_every_target_is_up(platform: Stack) -> None:
    def down() -> dict[str, str]:
        return {job: health for job, health in targets(platform).items() if health != "up"}

    assert eventually(lambda: not down().keys() - set(platform.left_out), 60), down()
    assert targets(platform).keys() | set(platform.left_out) >= {
        *("auth", "gateway", "ingest", "predict", "train", "train-worker"),
        *("prometheus", "alertmanager", "grafana", "node-exporter", "cadvisor"),
    }


@contextmanager
def webhook(address: str) -> Iterator[tuple[str, list[dict[str, Any]]]]:
    """Yield a receiver's address and what it is sent."""
    received: list[dict[str, Any]] = []

    class Receiver(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            received.append(json.loads(self.rfile.read(int(self.headers["Content-Length"]))))
            self.send_response(200)
            self.end_headers()
            self.wfile.write(b"ok")

    with serving(Receiver, address) as url:
        yield url + SECRET_PATH, received


def said(received: list[dict[str, Any]]) -> str:
    return json.dumps(received, ensure_ascii=False)


@pytest.mark.usefixtures("scan")
def test_slack_is_notified_of_a_process_that_is_down_and_when_it_is_back(platform: Stack) -> None:
    gateway = platform.docker(
        *("network", "inspect", "--format", "{{(index .IPAM.Config 0).Gateway}}", f"{PROJECT}_monitoring")
    ).strip()
    secret = platform.folder / ".secrets" / "slack_webhook_url"
    before = secret.read_text(encoding="utf-8")
    with webhook(gateway) as (url, received):
        secret.chmod(0o644)
        secret.write_text(url, encoding="utf-8")  # in place: the container holds this very file
        try:
            container = platform.container("predict")
            platform.docker("stop", "--time", "10", container.id)
            assert eventually(lambda: "🔥 Process" in said(received) and "predict" in said(received), PAGED_WITHIN_S)
            platform.docker("start", container.id)
            assert eventually(lambda: "✅ Resolved: Process" in said(received), 5 * 60)
        finally:
            platform.docker("start", container.id)
            secret.write_text(before, encoding="utf-8")
    assert SECRET_PATH not in said(received)
    platform.wait_until_whole(60)
