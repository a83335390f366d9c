"""What a caller sees of a forwarded request is the same ahead of FastAPI and through it."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import httpx2
import pytest
from prometheus_client import REGISTRY
from structlog.testing import capture_logs

from rayonnage_gateway.forwarding_path import ForwardingPath
from rayonnage_gateway.routes import PUBLIC_ROUTES
from tests.tokens import bearer, token
from tests.unit.gateway.servers import Conversation, Gateway, Service, request, running

LIMITS = {"small_max_body_bytes": 1000, "predict_max_body_bytes": 2000, "predict_rate_limit": "6/minute"}
OWN_ID = "X-Request-ID: the-caller-1"


@pytest.fixture(scope="module")
def both() -> Iterator[tuple[Gateway, Gateway, Service]]:
    """A gateway as it is, and one whose requests all go through FastAPI, before the same service."""
    service = Service()
    urls = {f"{name}_url": service.url for name in ("ingest", "train", "predict")}
    with running(**urls, **LIMITS) as ahead, running(**urls, **LIMITS) as through:
        layer: Any = through.app.middleware_stack
        while not isinstance(layer, ForwardingPath):
            layer = layer.app
        layer._plain.clear()
        layer._templates.clear()
        yield ahead, through, service
    service.close()


def in_chunks(target: str, size: int) -> bytes:
    head = request("POST", target, OWN_ID, "Transfer-Encoding: chunked")
    return head + b"%x\r\n%b\r\n0\r\n\r\n" % (size, bytes(size))


def without_token(method: str, target: str, *fields: str) -> bytes:
    return "\r\n".join([f"{method} {target} HTTP/1.1", "Host: x", OWN_ID, *fields, "", ""]).encode()


EXPIRED = f"Authorization: Bearer {token(exp=time.time() - 1)}"
REQUESTS: dict[str, bytes] = {
    **{
        f"{route.method} {route.path}": request(route.method, route.path.replace("{", "").replace("}", ""), OWN_ID)
        for route in PUBLIC_ROUTES
        if route.service != "auth" and route.route_class != "prediction"
    },
    "prediction": request("POST", "/predict?top_k=3", OWN_ID, body=b"x" * 1500),
    "prediction in chunks": in_chunks("/predict", 1500),
    "no body": request("POST", "/predict", OWN_ID),
    "no token": without_token("GET", "/info"),
    "no token, template": without_token("GET", "/models/one"),
    "no token, prediction": without_token("POST", "/predict", "Content-Length: 0"),
    "not a bearer token": without_token("GET", "/info", "Authorization: Basic YTpi"),
    "scheme in capitals": without_token("GET", "/info", f"Authorization: BEARER {token()}"),
    "two spaces": without_token("GET", "/info", f"Authorization: Bearer  {token()}"),
    "two tokens": without_token("GET", "/info", f"Authorization: Bearer {token()}", "Authorization: Bearer x"),
    "no valid token": without_token("GET", "/info", "Authorization: Bearer x.y.z"),
    "expired": without_token("GET", "/info", EXPIRED),
    "not an admin": without_token("GET", "/train/jobs", f"Authorization: Bearer {token()}"),
    "too large": request("POST", "/train", OWN_ID, body=bytes(1001)),
    "too large, prediction": request("POST", "/predict", OWN_ID, body=bytes(2001)),
    "too large in chunks": in_chunks("/train", 1001),
    "two ids": request("GET", "/info", OWN_ID, "X-Request-ID: the-caller-2"),
    "encoded path": request("GET", "/models/a%20b", OWN_ID),
    "encoded plain path": request("GET", "/inf%6f", OWN_ID),
    "another method": request("PUT", "/info", OWN_ID),
    "another method, template": request("POST", "/models/one", OWN_ID),
    "unknown path": request("GET", "/nothing", OWN_ID),
    "trailing slash": request("GET", "/info/", OWN_ID),
    "newline in the path": request("GET", "/models/one%0A", OWN_ID),
    "lower case path": request("GET", "/INFO", OWN_ID),
}


def answer(gateway: Gateway, sent: bytes) -> tuple[bytes, list[bytes], bytes, list[dict[str, Any]]]:
    """Return status line, headers and body, and the log lines of the request without their times."""
    with capture_logs() as logged:
        caller = gateway.connect()
        caller.send(sent)
        status, *headers = caller.read_head().split(b"\r\n")
        body = b"" if sent.startswith(b"HEAD") else caller.read_body(b"\r\n".join([status, *headers]))
        gateway.hang_up()
        time.sleep(0.05)
    lines = [
        {name: value for name, value in line.items() if name not in ("duration_ms", "request_id")}
        for line in logged
        if line["event"].startswith("http.")
    ]
    hidden = (b"date:", b"location:")
    kept = sorted(header for header in headers if not header.lower().startswith(hidden))
    return status, kept, body.replace(str(gateway.port).encode(), b"PORT"), lines


@pytest.mark.parametrize("name", REQUESTS)
def test_both_give_the_same_answer_and_leave_the_same_log_line(
    both: tuple[Gateway, Gateway, Service], name: str
) -> None:
    ahead, through, _service = both
    assert answer(ahead, REQUESTS[name]) == answer(through, REQUESTS[name])


def test_both_count_requests_under_the_same_labels(both: tuple[Gateway, Gateway, Service]) -> None:
    ahead, through, _service = both

    def counted() -> dict[tuple[str, str, str], float]:
        labels = [
            ("GET", "200", "/info"),
            ("GET", "200", "/models/{version}"),
            ("POST", "413", "/train"),
            ("GET", "401", "/info"),
        ]
        names = ("method", "status", "handler")
        return {
            one: REGISTRY.get_sample_value("http_requests_total", dict(zip(names, one, strict=True))) or 0.0
            for one in labels
        }

    def added(gateway: Gateway) -> list[float]:
        before = counted()
        for name in ("GET /info", "GET /models/{version}", "too large", "no token"):
            answer(gateway, REQUESTS[name])
        return [counted()[one] - before[one] for one in before]

    assert added(ahead) == added(through) == [1, 1, 1, 1]


def test_both_refuse_over_the_rate_limit_in_the_same_words(both: tuple[Gateway, Gateway, Service]) -> None:
    refused = []
    for gateway in both[:2]:
        with httpx2.Client(base_url=gateway.url, headers=bearer("eve")) as client:
            answers = [client.post("/predict") for _ in range(7)]
        assert [one.status_code for one in answers] == [200] * 6 + [429]
        document = answers[-1].json()
        refused.append((sorted(answers[-1].headers), sorted(document), document["title"], document["code"]))
    assert refused[0] == refused[1]


def test_both_pass_on_a_broken_answer_in_the_same_way(both: tuple[Gateway, Gateway, Service]) -> None:
    def half(conversation: Conversation) -> None:
        conversation.read_head()
        conversation.send(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf")

    def nonsense(conversation: Conversation) -> None:
        conversation.read_head()
        conversation.send(b"nonsense\r\n\r\n")

    for script in (half, nonsense):
        both[2].play(script)
        found = []
        for gateway in both[:2]:
            caller = gateway.connect()
            caller.send(request("GET", "/info", OWN_ID))
            status, *headers = caller.read_head().split(b"\r\n")
            found.append((status, sorted(line for line in headers if not line.startswith(b"date:"))))
            gateway.hang_up()
        assert found[0] == found[1]
