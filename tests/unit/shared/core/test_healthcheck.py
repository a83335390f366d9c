"""What an image's health check asks, over a small server of our own."""

from __future__ import annotations

import socket
import subprocess
import sys
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler

import pytest

from rayonnage_shared.core.healthcheck import main
from tests.http_server import serving
from tests.waiting import PATIENCE_S

ANSWERS = {
    "/health/ready": (200, b"{}"),
    "/metrics": (200, b"# HELP"),
    "/unready": (503, b'{"detail": "there is no model yet"}'),
    "/page": (404, b"<html>"),
}


class Handler(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        status, body = ANSWERS.get(self.path, (404, b"nothing here"))
        self.send_response(status)
        self.end_headers()
        self.wfile.write(body)


@pytest.fixture
def port() -> Iterator[str]:
    with serving(Handler) as url:
        yield url.rpartition(":")[2]


def test_a_service_is_asked_whether_it_is_ready(port: str) -> None:
    assert main(["predict"], {"PREDICT_HOST": "0.0.0.0", "PREDICT_PORT": port}) == 0


def test_the_worker_is_asked_for_its_metrics(port: str) -> None:
    assert main(["train-worker"], {"train_worker_metrics_port": port}) == 0


def test_an_address_is_asked_as_it_stands(port: str) -> None:
    assert main([f"http://127.0.0.1:{port}/metrics"], {}) == 0


@pytest.mark.parametrize(
    ("path", "said"), [("unready", "answers 503: there is no model yet"), ("page", "answers 404: <html>")]
)
def test_the_answer_names_what_is_wrong(port: str, path: str, said: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main([f"http://127.0.0.1:{port}/{path}"], {}) == 1
    assert said in capsys.readouterr().err


def test_nobody_there_is_not_ready(capsys: pytest.CaptureFixture[str]) -> None:
    with socket.socket() as held:  # bound and not listening: nobody else can answer here
        held.bind(("127.0.0.1", 0))
        assert main(["auth"], {"AUTH_PORT": str(held.getsockname()[1])}) == 1
    assert capsys.readouterr().err == "auth: no answer yet (ConnectionRefusedError)\n"


def test_it_needs_nothing_that_takes_long_to_import() -> None:
    code = (
        "import sys; before = set(sys.modules); import rayonnage_shared.core.healthcheck; "
        "print(*{name.partition('.')[0] for name in set(sys.modules) - before} - sys.stdlib_module_names)"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=PATIENCE_S)
    assert found.stdout.split() == ["rayonnage_shared"]


def test_a_port_that_is_no_number_is_named(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["predict"], {"PREDICT_PORT": "http"}) == 1
    assert capsys.readouterr().err == "predict: PREDICT_PORT=http is not a port number (1 to 65535)\n"
