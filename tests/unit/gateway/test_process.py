"""The gateway as the supervisor runs it: one process, told to stop by a signal."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import httpx2
import pytest

from tests.ports import free_ports
from tests.processes import killed_at_end
from tests.tokens import SECRET, bearer
from tests.unit.gateway.servers import Service
from tests.waiting import PATIENCE_S


@pytest.fixture
def process(service: Service, tmp_path: Path) -> Iterator[tuple[subprocess.Popen[bytes], str, str]]:
    ports = free_ports(2)
    environment = {
        "PATH": os.environ["PATH"],
        "ALGORITHM": "HS256",
        "SECRET_KEY": SECRET,
        "GATEWAY_PORT": str(ports[0]),
        "GATEWAY_METRICS_PORT": str(ports[1]),
        "PREDICT_URL": service.url,
        "TRAIN_URL": service.url,
        "INGEST_URL": service.url,
        "AUTH_URL": service.url,
        "LOGS_PATH": str(tmp_path),
        "PREDICT_RATE_LIMIT": "1/minute",
        "GATEWAY_FORWARDED_ALLOW_IPS": "127.0.0.0/8",
    }
    command = [sys.executable, "-m", "rayonnage_gateway"]
    with killed_at_end(subprocess.Popen(command, env=environment, cwd=tmp_path, stdout=subprocess.DEVNULL)) as started:
        url, metrics = (f"http://127.0.0.1:{port}" for port in ports)
        deadline = time.monotonic() + PATIENCE_S
        while True:
            try:
                httpx2.get(f"{url}/health/live", timeout=PATIENCE_S)
                break
            except httpx2.TransportError:
                assert started.poll() is None, "the gateway did not start"
                assert time.monotonic() < deadline
                time.sleep(0.05)
        yield started, url, metrics


def test_a_process_serves_counts_by_template_logs_and_ends_in_order(
    process: tuple[subprocess.Popen[bytes], str, str], tmp_path: Path
) -> None:
    started, url, metrics = process
    with httpx2.Client(
        base_url=url, headers=bearer(role="admin") | {"X-Request-ID": "seen-in-the-log"}, timeout=PATIENCE_S
    ) as client:
        assert client.post("/predict", content=b"x").status_code == 200
        assert client.post("/predict", content=b"x").status_code == 429
        heard = client.get("/models/one", headers={"X-Forwarded-For": "203.0.113.7"}).json()["fields"]
        assert heard["x-forwarded-for"] == "203.0.113.7"
        assert client.get("/models/two").status_code == 200
        assert client.get("/nowhere/at-all").status_code == 404
        assert client.get("/metrics").status_code == 404

    counted = httpx2.get(f"{metrics}/metrics", timeout=PATIENCE_S).text
    assert 'http_requests_total{handler="/models/{version}",method="GET",status="200"} 2.0' in counted
    assert 'http_requests_total{handler="/predict",method="POST",status="429"} 1.0' in counted
    assert 'http_requests_total{handler="none",method="GET",status="404"}' in counted
    assert "rayonnage_rate_limit_hits_total 1.0" in counted
    assert "/models/one" not in counted

    started.send_signal(signal.SIGTERM)
    assert started.wait(PATIENCE_S) in (0, -signal.SIGTERM)
    log = (tmp_path / "gateway.log").read_text()
    assert "seen-in-the-log" in log
    assert "Traceback" not in log
    assert bearer()["Authorization"].split(".")[0] not in log
