"""Requests and answers pass through whole and unread, whatever the two ends do."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import threading
import time
from collections.abc import Iterator

import httpx2
import pytest

from tests.tokens import bearer
from tests.unit.gateway.servers import Conversation, Gateway, Gone, Service, echo, fields_of, request, running
from tests.waiting import PATIENCE_S, eventually

MEBIBYTE = 1024 * 1024


def read_answer(conversation: Conversation) -> tuple[int, dict[str, str], bytes]:
    head = conversation.read_head()
    return int(head.split()[1]), fields_of(head), conversation.read_body(head)


def test_a_request_arrives_as_it_was_sent(client: httpx2.Client) -> None:
    body = os.urandom(300_000)
    answer = client.post("/predict?top_k=3&x=%2F", content=body, headers={b"X-Mine": b"\xe9t\xe9"})
    heard = answer.json()
    assert heard["line"] == "POST /predict?top_k=3&x=%2F HTTP/1.1"
    assert heard["sha256"] == hashlib.sha256(body).hexdigest()
    assert heard["fields"]["x-mine"] == "été"
    assert heard["fields"]["authorization"] == client.headers["authorization"]
    assert heard["fields"]["content-length"] == "300000"
    assert "transfer-encoding" not in heard["fields"]


def test_an_encoded_path_is_passed_on_as_it_came(client: httpx2.Client) -> None:
    assert client.get("/models/a%20b").json()["line"] == "GET /models/a%20b HTTP/1.1"


def test_the_service_gets_the_request_id_that_the_caller_gets(client: httpx2.Client) -> None:
    answer = client.get("/info", headers={"X-Request-ID": "my-own-id-0001"})
    assert answer.json()["fields"]["x-request-id"] == answer.headers["x-request-id"] == "my-own-id-0001"
    answer = client.get("/info", headers={"X-Request-ID": "no good"})
    assert answer.json()["fields"]["x-request-id"] == answer.headers["x-request-id"] != "no good"


def test_a_body_in_chunks_goes_on_in_chunks(client: httpx2.Client) -> None:
    body = os.urandom(200_000)

    def parts() -> Iterator[bytes]:
        for start in range(0, len(body), 7_000):
            yield body[start : start + 7_000]

    for path in ("/predict", "/ingest"):
        heard = client.post(path, content=parts()).json()
        assert heard["sha256"] == hashlib.sha256(body).hexdigest()
        assert heard["fields"]["transfer-encoding"] == "chunked"
        assert "content-length" not in heard["fields"]


def test_a_large_upload_streams(client: httpx2.Client) -> None:
    body = os.urandom(MEBIBYTE) * 24
    heard = client.post("/ingest", content=body).json()
    assert heard["sha256"] == hashlib.sha256(body).hexdigest()


def test_a_slow_service_slows_the_upload_instead_of_filling_the_gateway(gateway: Gateway, service: Service) -> None:
    reading = threading.Event()

    def slow(conversation: Conversation) -> None:
        head = conversation.read_head()
        reading.wait(PATIENCE_S)
        conversation.answer(b"%d" % len(conversation.read_body(head)))

    service.play(slow)
    caller = gateway.connect()
    size = 64 * MEBIBYTE
    caller.send(request("POST", "/ingest", f"Content-Length: {size}"))
    caller.sock.settimeout(0.5)
    sent = 0
    try:
        while sent < size:
            sent += caller.sock.send(bytes(65536))
    except TimeoutError:
        pass
    assert sent < 32 * MEBIBYTE, "somebody holds what the service has not read"
    reading.set()
    caller.sock.settimeout(PATIENCE_S)
    while sent < size:
        sent += caller.sock.send(bytes(min(65536, size - sent)))
    assert read_answer(caller)[2] == b"%d" % size


def test_an_answer_larger_than_memory_allows_streams_at_the_callers_pace(gateway: Gateway, service: Service) -> None:
    size = 64 * MEBIBYTE
    sent = 0

    def large(conversation: Conversation) -> None:
        nonlocal sent
        conversation.read_head()
        conversation.send(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % size)
        while sent < size:
            conversation.send(bytes(65536))
            sent += 65536

    service.play(large)
    caller = gateway.connect()
    caller.send(request("GET", "/ingest/x/rejects.csv"))
    time.sleep(0.5)
    assert sent < 32 * MEBIBYTE, "somebody holds what the caller has not read"
    _status, _fields, body = read_answer(caller)
    assert len(body) == size


def test_answers_in_chunks_and_answers_that_end_with_the_connection_pass(
    client: httpx2.Client, service: Service
) -> None:
    def chunked(conversation: Conversation) -> None:
        conversation.read_head()
        conversation.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n")
        time.sleep(0.05)
        conversation.send(b"2\r\nde\r\n0\r\n\r\n")

    def until_close(conversation: Conversation) -> None:
        conversation.read_head()
        conversation.send(b"HTTP/1.0 200 OK\r\n\r\nabc")
        time.sleep(0.05)
        conversation.send(b"de")

    for script in (chunked, until_close):
        service.play(script)
        assert client.get("/info").content == b"abcde"


def test_events_reach_the_caller_as_they_happen(gateway: Gateway, service: Service) -> None:
    go_on = threading.Event()

    def events(conversation: Conversation) -> None:
        conversation.read_head()
        conversation.send(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n")
        conversation.send(b"9\r\ndata: 1\n\n\r\n")
        go_on.wait(PATIENCE_S)
        conversation.send(b"9\r\ndata: 2\n\n\r\n0\r\n\r\n")

    service.play(events)
    caller = gateway.connect()
    caller.send(request("GET", "/train/jobs/1/events"))
    head = caller.read_head()
    assert fields_of(head)["content-type"] == "text/event-stream"
    while b"data: 1" not in caller.unread:
        caller.unread += caller.more()
    go_on.set()
    assert caller.read_body(head) == b"data: 1\n\ndata: 2\n\n"


@pytest.mark.parametrize("status", [204, 304])
def test_answers_without_a_body_keep_the_connection_in_use(
    client: httpx2.Client, service: Service, status: int
) -> None:
    def empty(conversation: Conversation) -> None:
        while True:
            conversation.read_head()
            conversation.send(b"HTTP/1.1 %d Empty\r\n\r\n" % status)

    service.play(empty)
    before = service.connections
    for _ in range(3):
        answer = client.delete("/train/jobs/x")
        assert (answer.status_code, answer.content) == (status, b"")
    assert service.connections == before + 1


def test_a_head_request_gets_the_fields_alone(client: httpx2.Client, service: Service) -> None:
    def head(conversation: Conversation) -> None:
        assert conversation.read_head().startswith(b"HEAD /info ")
        conversation.send(b"HTTP/1.1 200 OK\r\nContent-Length: 12345\r\n\r\n")

    service.play(head, echo)
    answer = client.head("/info")
    assert (answer.headers["content-length"], answer.content) == ("12345", b"")
    assert client.get("/info").status_code == 200


def test_an_interim_answer_is_passed_over(client: httpx2.Client, service: Service) -> None:
    def hesitant(conversation: Conversation) -> None:
        conversation.read_body(conversation.read_head())
        conversation.send(b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n")
        conversation.answer(b'"final"', 201)

    service.play(hesitant)
    answer = client.post("/train", content=b"{}")
    assert (answer.status_code, answer.json()) == (201, "final")
    assert "link" not in answer.headers


def test_a_services_problem_passes_unchanged(client: httpx2.Client, service: Service) -> None:
    def refuse(conversation: Conversation) -> None:
        conversation.read_body(conversation.read_head())
        conversation.send(
            b"HTTP/1.1 422 X\r\nContent-Type: application/problem+json\r\nContent-Length: 14\r\n"
            b"X-Request-ID: not-this-one\r\nRetry-After: 7\r\nServer: x\r\nDate: never\r\n\r\n"
            b'{"code":"own"}'
        )

    service.play(refuse)
    answer = client.post("/train", content=b"{}")
    assert (answer.status_code, answer.json()) == (422, {"code": "own"})
    assert answer.headers["retry-after"] == "7"
    assert answer.headers.get_list("x-request-id") != ["not-this-one"]
    assert len(answer.headers.get_list("x-request-id")) == 1
    assert answer.headers.get("date") != "never"


def test_fields_of_one_connection_do_not_pass(client: httpx2.Client, service: Service) -> None:
    def answer(conversation: Conversation) -> None:
        head = conversation.read_head()
        conversation.answer(
            json.dumps(fields_of(head)).encode(), 200, "Connection: keep-alive, X-Hop", "X-Hop: 1", "Keep-Alive: t=5"
        )

    service.play(answer)
    got = client.get("/info", headers={"Connection": "x-mine", "X-Mine": "1", "TE": "trailers", "Upgrade": "h2c"})
    assert not {"x-mine", "te", "upgrade", "connection"} & got.json().keys()
    assert not {"x-hop", "keep-alive"} & got.headers.keys()


def test_an_early_answer_reaches_a_caller_who_is_still_sending(gateway: Gateway, service: Service) -> None:
    closed_after: list[float] = []

    def refuse(conversation: Conversation) -> None:
        conversation.read_head()
        conversation.answer(b'{"code":"too_much"}', 413)
        closed_after.append(conversation.wait_for_end())

    service.play(refuse)
    caller = gateway.connect()
    caller.send(request("POST", "/ingest", f"Content-Length: {100 * MEBIBYTE}") + bytes(1000))
    status, _fields, body = read_answer(caller)
    assert (status, body) == (413, b'{"code":"too_much"}')
    service.drop_connections()


def test_expect_continue_is_answered_by_the_gateway_after_the_token_is_checked(gateway: Gateway) -> None:
    caller = gateway.connect()
    caller.send(request("POST", "/ingest", "Expect: 100-continue", "Content-Length: 3"))
    assert caller.read_head() == b"HTTP/1.1 100 Continue"
    caller.send(b"abc")
    status, _fields, body = read_answer(caller)
    heard = json.loads(body)
    assert (status, heard["bytes"]) == (200, 3)
    assert "expect" not in heard["fields"]

    stranger = gateway.connect()
    stranger.send(b"POST /ingest HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: 3\r\n\r\n")
    assert stranger.read_head().startswith(b"HTTP/1.1 401")


def test_a_kept_connection_is_used_again(client: httpx2.Client, service: Service) -> None:
    for _ in range(5):
        assert client.post("/predict", content=b"x").status_code == 200
    assert service.connections == 1


def test_the_caller_leaving_ends_the_exchange(gateway: Gateway, service: Service) -> None:
    ended: list[float] = []
    asked = threading.Event()

    def silent(conversation: Conversation) -> None:
        conversation.read_body(conversation.read_head())
        asked.set()
        ended.append(conversation.wait_for_end())

    for method, path, body in (("POST", "/predict", b"x"), ("POST", "/train", b"{}"), ("GET", "/info", None)):
        service.play(silent)
        asked.clear()
        caller = gateway.connect()
        caller.send(request(method, path, body=body))
        assert asked.wait(PATIENCE_S)
        caller.sock.close()
        assert eventually(lambda: ended), f"{path} goes on though nobody listens"
        ended.clear()


def test_the_caller_leaving_in_the_middle_of_an_upload_ends_it(gateway: Gateway, service: Service) -> None:
    begun, ended = threading.Event(), threading.Event()

    def listen(conversation: Conversation) -> None:
        head = conversation.read_head()
        begun.set()
        try:
            conversation.read_body(head)
        except Gone:
            ended.set()

    service.play(listen)
    caller = gateway.connect()
    caller.send(request("POST", "/ingest", "Content-Length: 1000000") + bytes(1000))
    assert begun.wait(PATIENCE_S)
    caller.sock.close()
    assert ended.wait(PATIENCE_S)


def test_an_ingest_finishes_though_the_caller_has_left(gateway: Gateway, service: Service) -> None:
    finished = threading.Event()
    asked = threading.Event()

    def still_there(conversation: Conversation) -> None:
        conversation.read_body(conversation.read_head())
        asked.set()
        conversation.sock.settimeout(0.6)
        try:
            left = conversation.sock.recv(1) == b""
        except TimeoutError:
            left = False
        if not left:
            finished.set()

    service.play(still_there)
    caller = gateway.connect()
    caller.send(request("POST", "/ingest", body=b"rows"))
    assert asked.wait(PATIENCE_S)
    caller.sock.close()
    assert finished.wait(PATIENCE_S), "the upload was whole, but the service was left"


def test_a_caller_who_never_reads_the_answers_frees_its_slot(service: Service) -> None:
    with (
        running(predict_url=service.url, gateway_connections=1, gateway_waiting=0, gateway_client_timeout_s=0.3) as one,
        httpx2.Client(base_url=one.url, headers=bearer(), timeout=PATIENCE_S) as other,
    ):
        caller = one.connect()
        caller.sock.settimeout(0.5)
        with contextlib.suppress(TimeoutError):
            while True:  # until answers fill every buffer between the gateway and this caller
                caller.sock.sendall(request("GET", "/info", f"X-Long: {'a' * 30_000}"))
        assert eventually(lambda: other.get("/info").status_code == 200)
