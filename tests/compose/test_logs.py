"""`make logs` over containers: readable text, and no line of the platform's own polling."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from rayonnage_shared.http.middleware import POLLS
from rayonnage_shared.observability.http_metrics import PROBES
from tests.compose.stack import BUILD_S, Stack
from tests.processes import killed_at_end
from tests.waiting import PATIENCE_S, eventually

pytestmark = [pytest.mark.compose, pytest.mark.timeout(BUILD_S + 600)]

PUBLIC = ("nginx", "gateway")
INTERNAL = ("auth", "ingest", "train", "predict", "train-worker", "mlflow")
ACCESS_LINE = re.compile(r'"(GET|HEAD) (/health|/metrics|/status)\S* HTTP/1\.[01]" \d{3}')
"""How uvicorn logs a probe; MLflow runs under it. nginx quotes the request of an error, without a status after it."""


@contextmanager
def make_logs(stack: Stack, output: Path) -> Iterator[subprocess.Popen[bytes]]:
    """Run `make logs` until the block ends, as Ctrl-C ends it."""
    with output.open("wb") as file:
        command = subprocess.Popen(["make", "logs"], cwd=stack.folder, stdout=file, stderr=file, start_new_session=True)
        with killed_at_end(command):
            try:
                yield command
            finally:
                os.killpg(command.pid, signal.SIGINT)
                command.wait(PATIENCE_S)


def test_make_logs_shows_the_containers_lines_as_readable_text(platform: Stack, tmp_path: Path) -> None:
    output = tmp_path / "logs.txt"
    with make_logs(platform, output), platform.client(platform.admin_token()) as client:

        def shown() -> bool:
            client.get("/info")
            lines = [line for line in output.read_text().splitlines() if "path=/info" in line]
            return {line.split()[0] for line in lines} >= {"nginx-1", "gateway-1", "predict-1"}

        assert eventually(shown, 120, every_s=1), output.read_text()[-3000:]

    text = output.read_text()
    assert re.search(r"gateway-1 \S+ \[info *\] http\.request .*path=/info", text), text[-3000:]
    assert '{"' not in text, "a line is still JSON"


def test_probes_and_the_services_own_polling_leave_no_lines(platform: Stack) -> None:
    with platform.client() as client:
        assert client.get("/status").status_code == 200
        ready = client.get("/health/ready", headers={"X-Request-ID": "logs-probe-1"})
    assert ready.status_code == 200

    # Each container was probed several times before the stack counted as ready, and polls auth twice a second.
    public, internal = (
        platform.compose("logs", "--no-color", "--no-log-prefix", "--tail", "2000", *names)
        for names in (PUBLIC, INTERNAL)
    )
    assert paths(public), "other requests are logged"
    assert paths(public).isdisjoint(PROBES)  # clients may request what the services poll from each other
    assert paths(internal).isdisjoint({*PROBES, *POLLS})
    assert not [line for line in (public + internal).splitlines() if ACCESS_LINE.search(line)]
    assert "logs-probe-1" not in public + internal


def paths(text: str) -> set[str]:
    return {event["path"] for event in events(text) if event.get("event") == "http.request"}


def events(text: str) -> Iterator[dict[str, Any]]:
    for line in text.splitlines():
        try:
            event = json.loads(line)
        except ValueError:
            continue
        if isinstance(event, dict):
            yield event
