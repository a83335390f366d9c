"""Who gets in, by which door: everything else does not exist from outside."""

from __future__ import annotations

import contextlib
import itertools
import re
import time
from collections.abc import Iterator

import httpx2
import pytest

from rayonnage_gateway.routes import PUBLIC_ROUTES, PublicRoute
from tests.tokens import bearer, token
from tests.unit.gateway.servers import Conversation, Gateway, Gone, Service, echo, fields_of, reached, request, running
from tests.waiting import PATIENCE_S

GUARDED = [route for route in PUBLIC_ROUTES if route.access != "public"]


def name(route: PublicRoute) -> str:
    return f"{route.method} {route.path}"


def address(route: PublicRoute) -> str:
    return re.sub(r"\{\w+\}", "some-id", route.path)


@pytest.fixture(scope="module")
def counted() -> Iterator[tuple[Gateway, dict[str, Service]]]:
    """A gateway before four services of their own."""
    services = {name: Service() for name in ("auth", "ingest", "train", "predict")}
    with running(
        predict_rate_limit="off", **{f"{name}_url": service.url for name, service in services.items()}
    ) as gateway:
        yield gateway, services
    for service in services.values():
        service.close()


@pytest.mark.parametrize("route", PUBLIC_ROUTES, ids=name)
def test_a_route_reaches_its_service_for_those_who_may(
    counted: tuple[Gateway, dict[str, Service]], route: PublicRoute
) -> None:
    gateway, services = counted
    others = {"public": {}, "user": bearer(), "admin": bearer(role="admin")}
    with httpx2.Client(base_url=gateway.url, timeout=PATIENCE_S) as client:
        answer = client.request(route.method, address(route), headers=others[route.access])
        assert answer.status_code == 200
        assert answer.json()["fields"]["host"] == f"127.0.0.1:{services[route.service].port}"
        assert answer.json()["line"] == f"{route.method} {address(route)} HTTP/1.1"


@pytest.mark.parametrize("route", GUARDED, ids=name)
def test_nothing_of_a_refused_request_goes_on(counted: tuple[Gateway, dict[str, Service]], route: PublicRoute) -> None:
    gateway, services = counted
    service = services[route.service]
    service.play(echo)
    refused = [({}, 401), ({"Authorization": "Bearer x.y.z"}, 401), ({"Authorization": "Basic YTpi"}, 401)]
    refused.append(({"Authorization": f"Bearer {token(exp=time.time() - 1)}"}, 401))
    if route.access == "admin":
        refused.append((bearer(), 403))
    with httpx2.Client(base_url=gateway.url, timeout=PATIENCE_S) as client:
        for headers, status in refused:
            answer = client.request(route.method, address(route), headers=headers, content=b"secret")
            assert answer.status_code == status
            assert answer.headers["content-type"] == "application/problem+json"
    assert service.connections <= (1 if route.service == "auth" else 0), "auth is asked for revocations meanwhile"


@pytest.mark.parametrize(
    "target",
    [
        "/metrics",
        "/internal/revocations",
        "/predict/batch",
        "/models/../internal/revocations",
        "/models/..%2finternal%2frevocations",
        "/%2e%2e/internal/revocations",
        "//predict",
        "/health/ready/x",
    ],
)
def test_what_is_not_in_the_table_does_not_exist(client: httpx2.Client, gateway: Gateway, target: str) -> None:
    for method in ("GET", "POST"):
        caller = gateway.connect()
        caller.send(request(method, target, body=b""))
        head = caller.read_head()
        assert head.startswith(b"HTTP/1.1 404"), target
        assert b"application/problem+json" in head


@pytest.mark.parametrize(
    ("target", "there"), [("/models/", "/models"), ("/status/", "/status"), ("/predict/", "/predict")]
)
def test_a_trailing_slash_is_redirected(client: httpx2.Client, target: str, there: str) -> None:
    for method in ("GET", "POST"):
        answer = client.request(method, target, follow_redirects=False)
        assert answer.status_code == 307
        assert httpx2.URL(answer.headers["location"]).path == there


def test_the_answer_to_a_wrong_method_lists_the_allowed_ones(client: httpx2.Client) -> None:
    answer = client.put("/users")
    assert (answer.status_code, answer.json()["code"]) == (405, "method_not_allowed")
    assert {"GET", "POST"} <= set(answer.headers["allow"].split(", "))


@pytest.mark.parametrize("path", ["/", "/docs", "/redoc", "/openapi.json", "/health/live", "/health/ready", "/status"])
def test_head_is_answered_as_get_is_without_the_body(client: httpx2.Client, path: str) -> None:
    got, told = client.get(path), client.head(path)
    assert told.status_code == got.status_code
    assert told.headers["content-type"] == got.headers["content-type"]
    assert told.content == b""


def test_a_service_gets_head_as_head(client: httpx2.Client, service: Service) -> None:
    heard: list[bytes] = []

    def listen(conversation: Conversation) -> None:
        heard.append(conversation.read_head())
        conversation.send(b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n")

    service.play(listen)
    assert client.head("/info").headers["content-length"] == "5"
    assert heard[0].startswith(b"HEAD /info HTTP/1.1")


def test_a_body_over_the_limit_of_its_route_is_refused_unread(service: Service) -> None:
    limits = {"predict_max_body_bytes": 2000, "small_max_body_bytes": 1000, "ingest_max_body_bytes": 3000}
    urls = {"predict_url": service.url, "train_url": service.url, "ingest_url": service.url}
    with reached(predict_rate_limit="off", **limits, **urls, role="admin") as client:
        for path, limit in (("/train", 1000), ("/predict", 2000), ("/ingest", 3000)):
            assert client.post(path, content=bytes(limit)).status_code == 200
            answer = client.post(path, content=bytes(limit + 1))
            assert (answer.status_code, answer.json()["code"]) == (413, "body_too_large")
            assert answer.json()["limit_bytes"] == limit
            chunks = (bytes(100) for _ in range(limit // 100 + 1))
            assert client.post(path, content=chunks).status_code == 413


def forwarded(gateway: Gateway, *fields: str) -> tuple[str, str]:
    caller = gateway.connect()
    caller.send(request("GET", "/info", *fields))
    body = caller.read_body(caller.read_head())
    heard = httpx2.Response(200, content=body).json()["fields"]
    return heard["x-forwarded-for"], heard["x-forwarded-proto"]


def test_a_strangers_word_about_addresses_is_not_believed(gateway: Gateway) -> None:
    fields = ("X-Forwarded-For: 6.6.6.6", "X-Forwarded-Proto: https", "Forwarded: for=6.6.6.6", "X-Real-IP: 6.6.6.6")
    assert forwarded(gateway, *fields) == ("127.0.0.1", "http")


@pytest.mark.parametrize("proxies", ["127.0.0.1", "127.0.0.0/8", "::1,127.0.0.0/30"])
def test_a_trusted_proxys_word_is_believed(service: Service, proxies: str) -> None:
    with running(predict_url=service.url, proxied_by=proxies) as gateway:
        fields = ("X-Forwarded-For: 6.6.6.6, 203.0.113.7", "X-Forwarded-Proto: https")
        assert forwarded(gateway, *fields) == ("203.0.113.7", "https")


def test_behind_two_trusted_proxies_the_caller_is_whom_the_outer_one_saw(service: Service) -> None:
    with running(predict_url=service.url, proxied_by="127.0.0.0/8, 172.31.241.0/24") as gateway:
        assert forwarded(gateway, "X-Forwarded-For: 6.6.6.6, 203.0.113.7, 172.31.241.2")[0] == "203.0.113.7"


def test_who_is_outside_the_trusted_networks_is_a_stranger(service: Service) -> None:
    with running(predict_url=service.url, proxied_by="172.31.241.0/24,128.0.0.0/1") as gateway:
        assert forwarded(gateway, "X-Forwarded-For: 6.6.6.6", "X-Forwarded-Proto: https") == ("127.0.0.1", "http")


def test_two_tokens_go_nowhere(gateway: Gateway, service: Service) -> None:
    caller = gateway.connect()
    caller.send(request("GET", "/info", "Authorization: Bearer another"))
    assert caller.read_head().startswith(b"HTTP/1.1 400")
    assert service.connections == 0


ONE_OF_TWO = b"POST /predict HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer %b\r\n"


@pytest.mark.parametrize(
    "rest",
    [
        b"Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\nGET /smuggled HTTP/1.1\r\n\r\n",
        b"Transfer-Encoding: chunked\r\nContent-Length: 5\r\n\r\n0\r\n\r\nGET /smuggled HTTP/1.1\r\n\r\n",
        b"Content-Length: 5\r\nContent-Length: 50\r\n\r\nhelloGET /smuggled HTTP/1.1\r\n\r\n",
        b"Content-Length: +5\r\n\r\nhelloGET /smuggled HTTP/1.1\r\n\r\n",
        b"Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\nGET /smuggled HTTP/1.1\r\n\r\n",
        b"Transfer-Encoding : chunked\r\n\r\n0\r\n\r\nGET /smuggled HTTP/1.1\r\n\r\n",
        b"Transfer-Encoding:\x0bchunked\r\n\r\n0\r\n\r\nGET /smuggled HTTP/1.1\r\n\r\n",
        b"X: a\rGET /smuggled: 1\r\n\r\n",
        b"X: a\n\nGET /smuggled HTTP/1.1\r\n\r\n",
        b"X: a\r\n GET /smuggled HTTP/1.1\r\nContent-Length: 0\r\n\r\n",
        b"X\x00: GET /smuggled HTTP/1.1\r\n\r\n",
    ],
)
def test_a_request_that_two_readers_could_take_differently_goes_nowhere(
    gateway: Gateway, service: Service, rest: bytes
) -> None:
    heard: list[bytes] = []

    def listen(conversation: Conversation) -> None:
        while True:
            head = conversation.read_head()
            heard.append(head)
            fields_of(head)
            conversation.read_body(head)
            conversation.answer()

    service.play(listen)
    caller = gateway.connect()
    caller.send(ONE_OF_TWO % token().encode() + rest)
    caller.sock.settimeout(0.5)
    with contextlib.suppress(Gone):
        while True:
            caller.read_head()
    assert not any(head.split(b" ")[1] == b"/smuggled" for head in heard)
    assert not any(b"\nGET" in head or b"\n GET" in head for head in heard)


def test_the_table_names_each_route_once() -> None:
    names = [(route.method, route.path) for route in PUBLIC_ROUTES]
    assert len(names) == len(set(names))


def test_no_path_is_hidden_by_one_before_it() -> None:
    def pattern(path: str) -> re.Pattern[str]:
        return re.compile(re.sub(r"\{\w+\}", "[^/]+", path))

    paths = list(dict.fromkeys(route.path for route in PUBLIC_ROUTES))
    methods = {path: {route.method for route in PUBLIC_ROUTES if route.path == path} for path in paths}
    for first, second in itertools.combinations(paths, 2):
        if "{" not in second and pattern(first).fullmatch(second):
            assert not methods[first] & methods[second], f"{first} hides {second}"
