"""How a service ends."""

from __future__ import annotations

import signal
import socket
import subprocess
import sys
import time

from rayonnage_shared.http.server import DRAIN_S, GONE_WITHIN_S
from rayonnage_shared.ops.supervision import STOP_WAIT_S
from tests.waiting import PATIENCE_S

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


def ended_while_asked(request_takes_s: float, drain_s: float, closing_takes_s: float) -> tuple[bytes, float]:
    """Tell a service to stop while it works on a request; return what the caller got, and how long the end took."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        port = probe.getsockname()[1]
    command = [sys.executable, "-c", PROGRAM, str(port), str(request_takes_s), *map(str, (drain_s, closing_takes_s))]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as service:
        deadline = time.monotonic() + PATIENCE_S
        while True:
            try:
                caller = socket.create_connection(("127.0.0.1", port), timeout=PATIENCE_S)
                break
            except ConnectionRefusedError:
                assert time.monotonic() < deadline and service.poll() is None
                time.sleep(0.05)
        with caller:
            caller.sendall(b"GET /slow HTTP/1.1\r\nHost: x\r\n\r\n")
            assert service.stdout is not None and service.stdout.readline() == b"asked\n"
            service.send_signal(signal.SIGTERM)
            told = time.monotonic()
            status = service.wait(PATIENCE_S)
            took = time.monotonic() - told
            answer = b""
            while part := caller.recv(1000):
                answer += part
    assert status == -signal.SIGTERM, "the way uvicorn ends when all went well"
    return answer, took


def test_a_request_under_way_is_answered_before_the_end() -> None:
    answer, _took = ended_while_asked(request_takes_s=0.3, drain_s=30, closing_takes_s=0)
    assert answer.startswith(b"HTTP/1.1 200") and answer.endswith(b'"answered"')


def test_a_request_that_takes_too_long_does_not_delay_the_end() -> None:
    _answer, took = ended_while_asked(request_takes_s=600, drain_s=1, closing_takes_s=60)
    assert took < 30, "the drain is over after one second, and the lifespan does not take the minute that it would like"


def test_all_is_over_before_anybody_kills() -> None:
    assert DRAIN_S < GONE_WITHIN_S < STOP_WAIT_S
    assert STOP_WAIT_S == 10  # as long as `docker stop` waits
