"""Services that die, hang, lie or babble: the caller gets a clear answer, and nobody gets another's."""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import httpx2
import pytest

from rayonnage_gateway.settings import GatewaySettings
from rayonnage_shared.http.server import KEEP_ALIVE_S
from tests.tokens import bearer
from tests.unit.gateway.servers import (
    Conversation,
    Gateway,
    Gone,
    Script,
    Service,
    caller_before,
    echo,
    reached,
    request,
    running,
)
from tests.waiting import PATIENCE_S, eventually


def problem(answer: httpx2.Response) -> tuple[int, str]:
    assert answer.headers["content-type"] == "application/problem+json"
    document = answer.json()
    assert document["request_id"] == answer.headers["x-request-id"]
    assert document["status"] == answer.status_code
    return answer.status_code, document["code"]


def die(conversation: Conversation) -> None:
    conversation.read_body(conversation.read_head())


def reset(conversation: Conversation) -> None:
    conversation.read_body(conversation.read_head())
    conversation.reset()


def saying(data: bytes) -> Script:
    def say(conversation: Conversation) -> None:
        conversation.read_body(conversation.read_head())
        conversation.send(data)

    return say


def hang(conversation: Conversation) -> None:
    conversation.read_body(conversation.read_head())
    conversation.wait_for_end()


def test_a_service_that_is_down_is_named() -> None:
    with (
        running(predict_rate_limit="off") as gateway,
        httpx2.Client(base_url=gateway.url, timeout=PATIENCE_S) as client,
    ):
        for path, service in (("/predict", "predict"), ("/train", "train"), ("/ingest", "ingest"), ("/token", "auth")):
            answer = client.post(path, content=b"x", headers=bearer(role="admin"))
            assert problem(answer) == (503, "dependency_unavailable")
            assert answer.json()["service"] == service
            assert int(answer.headers["retry-after"]) >= 1


@pytest.mark.parametrize("death", [die, reset])
def test_a_prediction_is_sent_once_more_when_the_connection_dies_unanswered(
    client: httpx2.Client, service: Service, death: Script
) -> None:
    service.play(death, echo)
    assert client.post("/predict", content=b"x" * 50_000).json()["bytes"] == 50_000
    assert service.connections == 2


def test_a_prediction_is_sent_twice_at_most(client: httpx2.Client, service: Service) -> None:
    service.play(die, die, echo)
    assert problem(client.post("/predict", content=b"x")) == (503, "dependency_unavailable")
    assert service.connections == 2


@pytest.mark.parametrize(("method", "path"), [("POST", "/train"), ("POST", "/ingest"), ("DELETE", "/train/jobs/1")])
def test_what_changes_something_is_never_sent_twice(
    client: httpx2.Client, service: Service, method: str, path: str
) -> None:
    service.play(die, echo)
    assert problem(client.request(method, path, content=b"{}")) == (503, "dependency_unavailable")
    assert service.connections == 1


def test_nothing_is_sent_again_once_an_answer_has_begun(client: httpx2.Client, service: Service) -> None:
    service.play(saying(b"HTTP/1.1 200 OK\r\nContent-Le"), echo)
    assert problem(client.post("/predict", content=b"x")) == (503, "dependency_unavailable")
    assert service.connections == 1


@pytest.mark.parametrize(
    "data",
    [
        b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nonly this",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nnot a size\r\n",
    ],
)
def test_a_cut_answer_is_cut_for_the_caller_too(client: httpx2.Client, service: Service, data: bytes) -> None:
    service.play(saying(data), echo)
    with pytest.raises(httpx2.RemoteProtocolError):
        client.post("/predict", content=b"x")
    assert service.connections == 1
    assert client.get("/info").status_code == 200


@pytest.mark.parametrize(
    "data",
    [
        b"SSH-2.0-OpenSSH_9.9\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00",
        b"HTTP/1.1 999 Strange\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: Upgrade\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nhello",
        b"HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nX: " + b"a" * 400_000,
        b"HTTP/1.1 200 OK\r\n" + b"X: a\r\n" * 40_000,
    ],
    ids=["ssh", "tls", "status-999", "switching", "two-lengths", "negative", "endless-field", "endless-fields"],
)
def test_what_is_no_answer_becomes_502(client: httpx2.Client, service: Service, data: bytes) -> None:
    def babble(conversation: Conversation) -> None:
        conversation.read_body(conversation.read_head())
        conversation.send(data)
        conversation.wait_for_end()

    service.play(babble, echo)
    assert problem(client.post("/predict", content=b"x")) == (502, "bad_upstream_answer")
    assert client.get("/info").status_code == 200


def test_what_follows_an_answer_unasked_is_given_to_nobody(client: httpx2.Client, service: Service) -> None:
    one = b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\none"
    stray = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nstray"

    def together(conversation: Conversation) -> None:
        conversation.read_head()
        conversation.send(one + stray)
        conversation.wait_for_end()

    answered, said = threading.Event(), threading.Event()

    def later(conversation: Conversation) -> None:
        conversation.read_head()
        conversation.send(one)
        answered.wait(PATIENCE_S)
        conversation.send(stray)
        said.set()
        conversation.wait_for_end()

    for script in (together, later):
        service.play(script, echo)
        assert client.get("/info").content == b"one"
        answered.set()
        assert script is together or said.wait(PATIENCE_S)
        assert client.get("/info").json()["line"] == "GET /info HTTP/1.1"


@pytest.mark.parametrize(
    ("first", "method", "path"),
    [("/info", "POST", "/predict"), ("/train/jobs", "POST", "/train"), ("/info", "GET", "/info")],
)
def test_a_kept_connection_that_has_died_is_not_used(
    client: httpx2.Client, service: Service, first: str, method: str, path: str
) -> None:
    service.play(saying(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}"), echo)
    assert client.get(first).json() == {}
    assert eventually(lambda: service.ended)
    assert client.request(method, path, content=b"x" if method == "POST" else None).status_code == 200


def test_a_kept_connection_that_dies_under_a_request_is_replaced_where_that_is_safe(
    client: httpx2.Client, service: Service
) -> None:
    def once(conversation: Conversation) -> None:
        conversation.read_body(conversation.read_head())
        conversation.answer()
        conversation.read_head()
        conversation.reset()

    for first, method, path, status in (
        ("/info", "POST", "/predict", 200),
        ("/info", "GET", "/info", 200),
        ("/train/jobs", "POST", "/train", 503),
    ):
        service.play(once, echo)
        assert client.get(first).json() == {}
        assert client.request(method, path, content=b"x" if method == "POST" else None).status_code == status


def test_a_service_that_says_connection_close_is_asked_on_a_new_one(client: httpx2.Client, service: Service) -> None:
    def last(conversation: Conversation) -> None:
        conversation.read_body(conversation.read_head())
        conversation.answer(b"{}", 200, "Connection: close")
        conversation.wait_for_end()

    service.play(last)
    for _ in range(3):
        assert client.post("/train", content=b"{}").status_code == 200
    assert service.connections == 3


@pytest.mark.parametrize("path", ["/predict", "/train", "/models/rollback", "/ingest"])
def test_silence_becomes_504(hurried: httpx2.Client, service: Service, path: str) -> None:
    service.play(hang)
    assert problem(hurried.post(path, content=b"x")) == (504, "upstream_timeout")


def test_a_head_that_drips_is_silence_too(hurried: httpx2.Client, service: Service) -> None:
    def drip(conversation: Conversation) -> None:
        conversation.read_head()
        for letter in itertools.chain(b"HTTP/1.1 200 OK\r\nX-Patience: ", itertools.repeat(b"z"[0])):
            conversation.send(bytes([letter]))
            time.sleep(0.02)

    service.play(drip)
    assert problem(hurried.get("/info")) == (504, "upstream_timeout")


def test_an_answer_that_falls_silent_is_cut(service: Service) -> None:
    def stop(conversation: Conversation) -> None:
        conversation.read_head()
        conversation.send(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nonly this")
        conversation.wait_for_end()

    service.play(stop)
    with (
        reached(predict_url=service.url, gateway_idle_timeout_s=0.3) as client,
        pytest.raises(httpx2.RemoteProtocolError),
    ):
        client.get("/info")


def test_a_stream_that_says_something_in_time_lives_longer_than_any_timeout(service: Service) -> None:
    def comments(conversation: Conversation) -> None:
        conversation.read_head()
        conversation.send(b"HTTP/1.1 200 OK\r\nContent-Length: 175\r\n\r\n")
        for _ in range(25):
            time.sleep(0.25)
            conversation.send(b": alive")

    service.play(comments)
    timeouts = dict.fromkeys(("gateway_timeout_s", "gateway_idle_timeout_s", "gateway_client_timeout_s"), 6.0)
    with reached(train_url=service.url, role="admin", **timeouts) as client:
        assert len(client.get("/train/jobs/1/events").content) == 175


def test_a_service_that_stops_reading_an_upload_is_left(impatient: Gateway, service: Service) -> None:
    answered = threading.Event()

    def deaf(conversation: Conversation) -> None:
        conversation.read_head()
        answered.wait(PATIENCE_S)

    service.play(deaf)
    caller = impatient.connect()
    caller.send(request("POST", "/ingest", f"Content-Length: {1 << 28}"))
    try:
        while True:
            caller.send(bytes(1 << 20))
            caller.sock.settimeout(0.2)
    except (Gone, TimeoutError):
        pass
    caller.sock.settimeout(PATIENCE_S)
    assert caller.read_head().startswith(b"HTTP/1.1 504")
    answered.set()


@pytest.mark.parametrize("path", ["/predict", "/ingest"])
def test_a_caller_who_stops_sending_gets_408_and_the_service_is_left(
    impatient: Gateway, service: Service, path: str
) -> None:
    caller = impatient.connect()
    caller.send(request("POST", path, "Content-Length: 1000") + b"not all")
    head = caller.read_head()
    assert head.startswith(b"HTTP/1.1 408")
    assert b"connection: close" in head


@pytest.mark.parametrize("path", ["/token", "/train", "/predict"])
def test_bodies_that_do_not_end_hold_no_connection_to_a_service(service: Service, path: str) -> None:
    urls = dict.fromkeys(("auth_url", "train_url", "predict_url"), service.url)
    with running(**urls, gateway_connections=2, gateway_waiting=0) as gateway:
        service.play(echo)
        held = [gateway.connect() for _ in range(5)]
        for number, caller in enumerate(held):
            body = "Transfer-Encoding: chunked" if number % 2 and path != "/predict" else "Content-Length: 60000"
            caller.send(request("POST", path, body) + b"1\r\nu\r\n")
        with caller_before(gateway, "admin") as client:
            answers = [client.get(f"/{name}") for name in ("train/jobs", "info", ".well-known/jwks.json") * 3]
        assert {answer.status_code for answer in answers} == {200}


@pytest.mark.parametrize(
    ("path", "how"),
    [
        ("/train", "Content-Length: 10000"),
        ("/train", "Transfer-Encoding: chunked"),
        ("/predict", "Content-Length: 10000"),
        ("/predict", "Transfer-Encoding: chunked"),
    ],
)
def test_a_body_that_drips_gets_408_when_its_time_is_over(service: Service, path: str, how: str) -> None:
    urls = dict.fromkeys(("train_url", "predict_url"), service.url)
    with running(**urls, gateway_total_timeout_s=0.5) as gateway:
        caller = gateway.connect()
        caller.send(request("POST", path, how))
        drop = b"1\r\nx\r\n" if "chunked" in how else b"x"
        caller.sock.settimeout(0.05)
        while True:
            try:
                caller.sock.sendall(drop)
                caller.unread += caller.sock.recv(1 << 16)
                break
            except TimeoutError:
                continue
        caller.sock.settimeout(PATIENCE_S)
        assert caller.read_head().startswith(b"HTTP/1.1 408")


def test_an_answer_that_drips_is_cut_when_its_time_is_over(service: Service) -> None:
    def drip(conversation: Conversation) -> None:
        conversation.read_head()
        conversation.send(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000\r\n\r\n")
        while True:
            conversation.send(b".")
            time.sleep(0.02)

    service.play(drip)
    with (
        reached(predict_url=service.url, gateway_total_timeout_s=0.5) as client,
        pytest.raises(httpx2.RemoteProtocolError),
    ):
        client.get("/info")


def test_an_idle_connection_is_closed_by_the_gateway_and_not_by_the_service() -> None:
    assert GatewaySettings(_env_file=None).gateway_keep_alive_s + 10 <= KEEP_ALIVE_S


class Busy:
    """Holds requests until told to answer them."""

    def __init__(self) -> None:
        self.go_on = threading.Event()
        self.held = 0

    def __call__(self, conversation: Conversation) -> None:
        while True:
            conversation.read_body(conversation.read_head())
            self.held += 1
            self.go_on.wait(PATIENCE_S)
            conversation.answer()


@pytest.fixture
def busy(service: Service) -> Iterator[Busy]:
    script = Busy()
    service.play(script)
    yield script
    script.go_on.set()


def test_more_than_may_wait_get_503_at_once_and_the_rest_go_through(client: httpx2.Client, busy: Busy) -> None:
    with ThreadPoolExecutor(12) as threads:
        calls = [threads.submit(client.post, "/predict", content=b"x") for _ in range(12)]
        assert eventually(lambda: sum(call.done() for call in calls) == 4)
        busy.go_on.set()
        answers = [call.result() for call in calls]
    refused = [answer for answer in answers if answer.status_code != 200]
    assert len(refused) == 4, "8 go on, 2 of the others wait 0.3 s in vain, 2 are refused at once"
    for answer in refused:
        assert problem(answer) == (503, "overloaded")
        assert int(answer.headers["retry-after"]) >= 1
    assert client.post("/predict", content=b"x").status_code == 200


def test_who_waits_gets_the_next_free_connection(service: Service, busy: Busy) -> None:
    with (
        reached(
            predict_url=service.url, predict_rate_limit="off", gateway_connections=8, gateway_wait_s=PATIENCE_S
        ) as client,
        ThreadPoolExecutor(10) as threads,
    ):
        calls = [threads.submit(client.post, "/predict", content=b"x") for _ in range(10)]
        assert eventually(lambda: busy.held == 8)
        time.sleep(0.15)  # for the other two to wait, as they do in any case
        busy.go_on.set()
        assert [call.result().status_code for call in calls] == [200] * 10


def test_open_event_streams_do_not_keep_jobs_from_being_asked_for(gateway: Gateway, service: Service) -> None:
    def stream(conversation: Conversation) -> None:
        head = conversation.read_head()
        if b"/events" not in head:
            conversation.answer()
            return
        conversation.send(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n: here\n\n")
        conversation.wait_for_end()

    service.play(stream)
    for _ in range(12):
        caller = gateway.connect()
        caller.send(request("GET", "/train/jobs/1/events"))
        assert caller.read_head().startswith(b"HTTP/1.1 200")
    with httpx2.Client(base_url=gateway.url, headers=bearer(role="admin"), timeout=PATIENCE_S) as client:
        assert client.get("/train/jobs").status_code == 200


def test_a_second_address_takes_over_while_one_is_down(service: Service) -> None:
    both = f"http://127.0.0.1:1, {service.url}"
    with reached(predict_url=both, predict_rate_limit="off") as client:
        assert [client.post("/predict", content=b"x").status_code for _ in range(6)] == [200] * 6


def test_a_replay_goes_to_the_other_address(service: Service) -> None:
    other = Service()
    try:
        other.play(die)
        both = f"{other.url},{service.url}"
        with reached(predict_url=both, predict_rate_limit="off") as client:
            assert [client.post("/predict", content=b"x").status_code for _ in range(6)] == [200] * 6
        assert other.connections == 1
    finally:
        other.close()
