"""How a service answers what is not HTTP, and how it ends."""

from __future__ import annotations

import contextlib
import json
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from rayonnage_shared.http.server import DRAIN_S, GONE_WITHIN_S, KEEP_ALIVE_S
from rayonnage_shared.ops.supervision import STOP_WAIT_S
from tests.processes import killed_at_end
from tests.waiting import PATIENCE_S

NGINX = Path(__file__).parents[4] / "deployments" / "nginx" / "nginx.conf"

PROGRAM = """
import asyncio, contextlib, sys, time
from fastapi import FastAPI
from rayonnage_shared.http import server

@contextlib.asynccontextmanager
async def lifespan(app):
    yield
    time.sleep(server.time_to_close(app, float(sys.argv[4])))

app = FastAPI(lifespan=lifespan)

@app.get("/slow")
async def slow() -> str:
    print("asked", flush=True)
    await asyncio.sleep(float(sys.argv[2]))
    return "answered"

server.DRAIN_S, server.GONE_WITHIN_S = float(sys.argv[3]), float(sys.argv[3]) + 0.5
server.serve(app, host="127.0.0.1", port=int(sys.argv[1]))
"""


@contextlib.contextmanager
def service_and_caller(*arguments: float) -> Iterator[tuple[subprocess.Popen[bytes], socket.socket]]:
    """Run PROGRAM with these arguments on a free port, and yield its process and a connection to it."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    command = [sys.executable, "-c", PROGRAM, str(port), *map(str, arguments)]
    with killed_at_end(subprocess.Popen(command, stdout=subprocess.PIPE)) as service:
        deadline = time.monotonic() + PATIENCE_S
        while True:
            try:
                caller = socket.create_connection(("127.0.0.1", port), timeout=PATIENCE_S)
                break
            except ConnectionRefusedError:
                assert time.monotonic() < deadline and service.poll() is None
                time.sleep(0.05)
        with caller:
            yield service, caller


def received(caller: socket.socket) -> bytes:
    """Return everything until the service closes the connection."""
    answer = b""
    while part := caller.recv(1000):
        answer += part
    return answer


def stopped_while_asked(request_takes_s: float, drain_s: float, closing_takes_s: float) -> bytes:
    """Stop a service while it works on a request; return what the caller got. Fails if the service does not end."""
    with service_and_caller(request_takes_s, drain_s, closing_takes_s) as (service, caller):
        caller.sendall(b"GET /slow HTTP/1.1\r\nHost: x\r\n\r\n")
        assert service.stdout is not None and service.stdout.readline() == b"asked\n"
        service.send_signal(signal.SIGTERM)
        status = service.wait(PATIENCE_S)
        answer = received(caller)
    assert status == -signal.SIGTERM, "the way uvicorn ends when all went well"
    return answer


@pytest.mark.parametrize(
    "sent",
    [
        b"not http at all\r\n\r\n",
        b"GET / HTTP/1.1\r\nHost x\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: many\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
    ],
)
def test_what_is_not_http_is_answered_with_a_problem_document_and_its_request_id(sent: bytes) -> None:
    with service_and_caller(0, 1, 0) as (_service, caller):
        caller.sendall(sent)
        head, _blank, body = received(caller).partition(b"\r\n\r\n")

    status_line, *lines = head.decode().split("\r\n")
    headers = dict(line.lower().split(": ", 1) for line in lines)
    problem = json.loads(body)
    assert status_line == "HTTP/1.1 400 Bad Request"
    assert headers["content-type"] == "application/problem+json"
    assert headers["connection"] == "close"
    assert int(headers["content-length"]) == len(body)
    assert (problem["status"], problem["code"]) == (400, "bad_request")
    assert problem["request_id"].lower() == headers["x-request-id"] != ""


LIVE = b"GET /slow HTTP/1.1\r\nHost: x\r\n"


@pytest.mark.parametrize(
    "sent",
    [
        LIVE + b"X: " + b"a" * 70_000 + b"\r\n\r\n",
        LIVE + b"".join(b"X-%d: a\r\n" % number for number in range(9_000)) + b"\r\n",
        b"GET /" + b"a" * 70_000 + b" HTTP/1.1\r\nHost: x\r\n\r\n",
    ],
)
def test_a_head_of_more_than_64_kb_is_431(sent: bytes) -> None:
    with service_and_caller(0, 1, 0) as (_service, caller):
        with contextlib.suppress(ConnectionError):
            caller.sendall(sent)
        head, _blank, body = received(caller).partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 431 Request Header Fields Too Large")
    assert json.loads(body)["code"] == "head_too_large"


@pytest.mark.parametrize(
    "begin",
    [
        LIVE + b"X: ",
        b"GET /",
        b"POST /slow HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n0\r\nX-Trailer: ",
        b"POST /slow HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n1;",
    ],
)
def test_a_head_without_end_is_refused_after_64_kb(begin: bytes) -> None:
    with service_and_caller(0, 1, 0) as (_service, caller):
        caller.sendall(begin)
        caller.settimeout(0.001)
        sent = 0
        with contextlib.suppress(ConnectionError):
            while sent < 4_000_000:
                with contextlib.suppress(TimeoutError):
                    if caller.recv(100_000) == b"":
                        break
                sent += caller.send(b"a" * 1000)
    assert 60_000 < sent < 4_000_000


def test_a_head_of_60_kb_is_read() -> None:
    with service_and_caller(0, 1, 0) as (_service, caller):
        caller.sendall(LIVE + b"X: " + b"a" * 60_000 + b"\r\n\r\n")
        assert caller.recv(100).startswith(b"HTTP/1.1 200")


@pytest.mark.parametrize("hosts", [b"", b"Host: x\r\nHost: x\r\n", b"Host: x\r\nhost: y\r\n"])
def test_a_request_has_exactly_one_host(hosts: bytes) -> None:
    with service_and_caller(0, 1, 0) as (_service, caller):
        caller.sendall(b"GET /slow HTTP/1.1\r\n" + hosts + b"\r\n")
        head, _blank, body = received(caller).partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 400")
    assert "Host" in json.loads(body)["detail"]


def test_an_idle_connection_outlives_that_of_nginx() -> None:
    """nginx keeps idle connections to the gateway for 60 s: closed here first, one could lose a POST."""
    found = re.search(r"upstream gateway \{[^}]*keepalive_timeout (\d+)s;", NGINX.read_text(encoding="utf-8"))
    assert found is not None
    assert int(found[1]) + 10 <= KEEP_ALIVE_S
    with service_and_caller(0, 1, 0) as (_service, caller):
        for pause_s in (0, 6):  # uvicorn's own time is 5 s
            time.sleep(pause_s)
            caller.sendall(LIVE + b"\r\n")
            answer = b""
            while not answer.endswith(b'"answered"') and (part := caller.recv(1000)):
                answer += part
            assert answer.startswith(b"HTTP/1.1 200")


def test_a_request_under_way_is_answered_before_the_end() -> None:
    answer = stopped_while_asked(request_takes_s=0.3, drain_s=30, closing_takes_s=0)
    assert answer.startswith(b"HTTP/1.1 200") and answer.endswith(b'"answered"')


def test_a_request_that_takes_too_long_does_not_delay_the_end() -> None:
    stopped_while_asked(request_takes_s=10 * PATIENCE_S, drain_s=1, closing_takes_s=10 * PATIENCE_S)


def test_all_is_over_before_anybody_kills() -> None:
    assert DRAIN_S < GONE_WITHIN_S < STOP_WAIT_S
    assert STOP_WAIT_S == 10  # as long as `docker stop` waits
