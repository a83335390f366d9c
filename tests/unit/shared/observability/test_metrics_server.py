from __future__ import annotations

import socket

import httpx2
import pytest
from prometheus_client import CollectorRegistry, Gauge

from rayonnage_shared.observability.metrics_server import metrics_server
from tests.waiting import PATIENCE_S


@pytest.fixture
def registry() -> CollectorRegistry:
    made = CollectorRegistry()
    Gauge("answer", "What is asked for.", registry=made).set(42)
    return made


@pytest.mark.parametrize(
    ("host", "address"), [("127.0.0.1", "127.0.0.1"), ("::1", "[::1]"), ("localhost", "localhost")]
)
def test_the_registry_is_served_until_the_block_ends(registry: CollectorRegistry, host: str, address: str) -> None:
    with metrics_server(host, 0, registry) as port:
        assert "answer 42.0" in httpx2.get(f"http://{address}:{port}/metrics", timeout=PATIENCE_S).text

    with pytest.raises(httpx2.ConnectError):
        httpx2.get(f"http://{address}:{port}/metrics", timeout=PATIENCE_S)


def test_a_port_that_is_taken_is_an_error(registry: CollectorRegistry) -> None:
    with (
        socket.create_server(("127.0.0.1", 0)) as other,
        pytest.raises(OSError, match="in use"),
        metrics_server("127.0.0.1", other.getsockname()[1], registry),
    ):
        pass


def test_scrapes_are_not_logged(registry: CollectorRegistry, capfd: pytest.CaptureFixture[str]) -> None:
    with metrics_server("127.0.0.1", 0, registry) as port:
        httpx2.get(f"http://127.0.0.1:{port}/metrics", timeout=PATIENCE_S)

    assert capfd.readouterr() == ("", "")
