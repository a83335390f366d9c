"""nginx: what comes in, what does not, and how."""

from __future__ import annotations

import socket
import ssl
import time
from pathlib import Path

import httpx2
import pytest

from tests.compose.stack import Stack
from tests.e2e.api import job_events, predict_form, problem, start_training
from tests.waiting import PATIENCE_S

pytestmark = [pytest.mark.compose, pytest.mark.timeout(900)]


def port(platform: Stack, setting: str) -> int:
    return int(platform.values[setting])


def handshake(platform: Stack, version: ssl.TLSVersion) -> str | None:
    context = ssl.create_default_context(cafile=str(platform.folder / ".certs" / "ca.pem"))
    context.minimum_version = context.maximum_version = version
    context.set_alpn_protocols(["h2", "http/1.1"])
    with (
        socket.create_connection(("127.0.0.1", port(platform, "HTTPS_PORT")), 10) as raw,
        context.wrap_socket(raw, server_hostname="localhost") as wrapped,
    ):
        return wrapped.selected_alpn_protocol()


def test_the_first_start_predicts_without_a_hand(platform: Stack, sample: Path) -> None:
    with platform.client(platform.admin_token()) as client:
        photo = (sample / "exemple.jpg").read_bytes()
        answer = predict_form(client, photo, designation="Robot nettoyeur de piscine hors sol")

    assert answer.status_code == 200, answer.text
    assert answer.json()["category_id"] == 2583


def test_tls_is_new_enough_and_http_2_is_spoken(platform: Stack) -> None:
    assert handshake(platform, ssl.TLSVersion.TLSv1_2) == "h2"
    assert handshake(platform, ssl.TLSVersion.TLSv1_3) == "h2"
    with pytest.warns(DeprecationWarning), pytest.raises((ssl.SSLError, ConnectionError)):
        handshake(platform, ssl.TLSVersion.TLSv1_1)


def test_plain_http_is_sent_to_https_with_its_method(platform: Stack) -> None:
    answer = httpx2.post(f"http://localhost:{port(platform, 'HTTP_PORT')}/predict?x=1", json={}, timeout=PATIENCE_S)
    assert answer.status_code == 308
    assert answer.headers["location"] == "https://localhost/predict?x=1"


@pytest.mark.parametrize("path", ["/metrics", "/internal/revocations", "/internal", "/metrics/", "/%6Detrics"])
def test_what_is_for_the_inside_stays_inside(platform: Stack, path: str) -> None:
    with platform.client() as client:
        problem(client.get(path), 404, "not_found")


def test_only_the_door_is_open(platform: Stack) -> None:
    published = {
        one.service: platform.docker("port", one.id).split() for one in platform.containers() if one.state == "running"
    }
    assert {name for name, ports in published.items() if ports} <= {
        *("nginx", "mlflow", "prometheus", "alertmanager", "grafana")
    }
    addresses = [part for ports in published.values() for part in ports if ":" in part]
    assert all(address.startswith("127.0.0.1:") for address in addresses)


def test_a_body_that_is_too_large_is_refused_as_a_problem(platform: Stack) -> None:
    with platform.client(platform.admin_token()) as client:
        problem(client.post("/token", content=b"x" * 100_000), 413, "body_too_large")
        problem(predict_form(client, bytes(11_000_000)), 413, "body_too_large")


def test_the_callers_claim_of_an_address_is_dropped(platform: Stack) -> None:
    """Guessing is slowed down by address: a caller who invents addresses is not slowed down less."""
    statuses = []
    with platform.client() as client:
        for number in range(40):
            answer = client.post(
                "/token",
                data={"username": f"nobody-{number}", "password": "wrong password"},
                headers={"X-Forwarded-For": f"10.1.2.{number}"},
            )
            statuses.append(answer.status_code)
    assert statuses[0] == 401
    assert 429 in statuses
    platform.docker("restart", platform.container("auth").id)  # the other tests log in from the same address
    platform.wait_until_whole(60)


def test_a_jobs_events_come_one_by_one(platform: Stack) -> None:
    with platform.client(platform.admin_token()) as client:
        job = start_training(client, "/train/text", text="tfidf-svm", promote="never")
        arrived = [(time.monotonic(), event["status"]) for event in job_events(client, job)]
    assert arrived[-1][1] == "succeeded"
    assert arrived[-1][0] - arrived[0][0] > 1, "all came at the end: something has held them back"


def test_the_rate_limit_is_counted_in_redis(platform: Stack) -> None:
    with platform.client(platform.admin_token()) as client:
        assert client.post("/predict", json={"designation": "Piscine"}).status_code == 200
    password = (platform.folder / ".secrets" / "redis_password").read_text(encoding="utf-8").strip()
    keys = platform.compose("exec", "-T", "redis", "redis-cli", "-a", password, "--no-auth-warning", "keys", "*")
    assert "predict" in keys
