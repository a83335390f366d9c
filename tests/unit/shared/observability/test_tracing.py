"""Traces: continued from callers, sent without anybody waiting, and nothing at all where nobody wants them."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, suppress
from typing import Any

import pytest
import structlog
from fastapi import APIRouter, FastAPI
from httpx2 import ASGITransport, AsyncClient

from rayonnage_shared.core.settings import ServiceSettings
from rayonnage_shared.http.app import create_service
from rayonnage_shared.observability import tracing as tracing_module
from rayonnage_shared.observability.tracing import set_up_tracing, stop_tracing, traceparent_of, tracing
from tests.collector import Collector, running_collector
from tests.waiting import PATIENCE_S

TRACE, SPAN = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
SERVER, CLIENT = 2, 3  # kinds by OTLP
router = APIRouter()


@router.get("/things/{name}")
async def thing(name: str) -> str:
    structlog.get_logger().info("thing.asked")
    return name


@router.get("/bug")
async def bug() -> None:
    raise KeyError("a bug")


@asynccontextmanager
async def lifespan(_app: FastAPI) -> AsyncIterator[None]:
    yield


@pytest.fixture(autouse=True)
def events() -> Iterator[list[Any]]:
    with structlog.testing.capture_logs([structlog.contextvars.merge_contextvars]) as captured:
        yield captured


@pytest.fixture(autouse=True)
def traces_stopped() -> Iterator[None]:
    yield
    stop_tracing()


@pytest.fixture
def collector() -> Iterator[Collector]:
    with running_collector() as running:
        yield running


def trace(endpoint: str | None, *, public: bool = False, **settings: Any) -> None:
    set_up_tracing(
        "demo", ServiceSettings(_env_file=None, otel_exporter_otlp_endpoint=endpoint, **settings), public=public
    )


async def ask(path: str, traceparent: str | None = None) -> int:
    app = create_service(
        title="demo", description="", lifespan=lifespan, routers=[router], readiness={}, max_body_bytes=1000
    )
    headers = {} if traceparent is None else {"traceparent": traceparent}
    async with AsyncClient(transport=ASGITransport(app), base_url="http://demo", headers=headers) as client:
        return (await client.get(path)).status_code


async def test_a_request_is_a_span_under_its_routes_template(collector: Collector, events: list[Any]) -> None:
    trace(collector.endpoint)
    assert await ask("/things/one") == 200
    stop_tracing()
    (span,) = collector.spans
    assert (span.service, span.name, span.kind, span.parent) == ("demo", "GET /things/{name}", SERVER, "")
    assert span.attributes["http.response.status_code"] == 200
    (asked,) = [event for event in events if event["event"] == "thing.asked"]
    assert asked["trace_id"] == span.trace_id
    assert asked["request_id"] == span.attributes["rayonnage.request_id"]


async def test_an_error_of_ours_is_one_in_the_trace(collector: Collector) -> None:
    trace(collector.endpoint)
    assert await ask("/bug") == 500
    assert await ask("/nowhere") == 404
    stop_tracing()
    assert [(span.name, span.is_error) for span in collector.spans] == [("GET /bug", True), ("GET", False)]


async def test_health_and_metrics_are_no_spans(collector: Collector) -> None:
    trace(collector.endpoint)
    assert await ask("/health/live") == 200
    assert await ask("/metrics") == 200
    stop_tracing()
    assert collector.spans == []


async def test_a_callers_trace_is_continued(collector: Collector) -> None:
    trace(collector.endpoint)
    await ask("/things/one", f"00-{TRACE}-{SPAN}-01")
    stop_tracing()
    assert [(span.trace_id, span.parent) for span in collector.spans] == [(TRACE, SPAN)]


@pytest.mark.parametrize(
    "header",
    [
        "",
        "garbage",
        f"01-{TRACE}-{SPAN}-01",
        f"00-{TRACE.upper()}-{SPAN}-01",
        f"00-{TRACE}-{SPAN}-01-more" * 1000,
        f"00-{'0' * 32}-{SPAN}-01",
        f"00-{TRACE}-{'0' * 16}-01",
    ],
)
async def test_a_header_that_is_not_sound_begins_a_new_trace(collector: Collector, header: str) -> None:
    trace(collector.endpoint)
    assert await ask("/things/one", header) == 200
    stop_tracing()
    (span,) = collector.spans
    assert (span.trace_id != TRACE, span.parent) == (True, "")


async def test_inside_the_caller_decides_what_is_recorded(collector: Collector) -> None:
    trace(collector.endpoint)
    await ask("/things/one", f"00-{TRACE}-{SPAN}-00")
    stop_tracing()
    assert collector.spans == []


async def test_at_the_door_it_does_not(collector: Collector, events: list[Any]) -> None:
    trace(collector.endpoint, public=True, otel_traces_sampler_arg=0.0)
    await ask("/things/one", f"00-{TRACE}-{SPAN}-01")
    stop_tracing()
    assert collector.spans == []
    assert all("trace_id" not in event for event in events), "an id that nothing is found under"


def test_what_is_not_recorded_here_is_not_recorded_further_on(collector: Collector) -> None:
    trace(collector.endpoint, otel_traces_sampler_arg=0.0)
    traces = tracing()
    assert traces is not None
    span = traces.server_span("GET", None, "r-1")
    flags = traceparent_of(traces.client_span(span, "GET", "predict")).rpartition(b"-")[2]
    assert int(flags, 16) & 1 == 0, "bit 0 says that it is recorded"


def test_the_collector_gets_the_headers_that_it_asks_for(collector: Collector) -> None:
    trace(collector.endpoint, otel_exporter_otlp_headers="authorization=Bearer abc=, x-scope = 7")
    traces = tracing()
    assert traces is not None
    with traces.work("job train", job_id="j-1"):
        pass
    stop_tracing()
    assert [(span.name, span.attributes) for span in collector.spans] == [("job train", {"job_id": "j-1"})]
    assert collector.headers[0]["authorization"] == "Bearer abc="
    assert collector.headers[0]["x-scope"] == "7"


@pytest.mark.parametrize("listens", [False, True])
async def test_a_collector_that_does_not_answer_keeps_nobody_waiting(
    listens: bool, events: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tracing_module, "SEND_TIMEOUT_S", 10 * PATIENCE_S)
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        if listens:
            silent.listen()  # and never answers
        trace(f"http://127.0.0.1:{silent.getsockname()[1]}")
        traces = tracing()
        assert traces is not None
        for _ in range(5000):  # more than wait in the queue
            traces.end(traces.server_span("GET", None, "r-1"), 200)
        assert await ask("/things/one") == 200
        started = time.monotonic()
        stop_tracing()
        assert time.monotonic() - started < PATIENCE_S, "it waits a second, and not as long as the collector may take"


def test_without_a_collector_nothing_is_imported() -> None:
    program = """
import sys
from rayonnage_shared.core.settings import ServiceSettings
from rayonnage_shared.observability import tracing
from rayonnage_shared.http import app as web
tracing.set_up_tracing("demo", ServiceSettings(_env_file=None))
print(tracing.tracing(), *(name for name in sys.modules if name.startswith("opentelemetry.sdk") or name == "requests"))
"""
    found = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=PATIENCE_S
    )
    assert found.stdout.split() == ["None"]


def test_a_traced_process_can_spawn_children_under_uvloop() -> None:
    # Fork handlers run in the order of their registration. uvloop imports concurrent.futures.thread, whose handler
    # releases the thread pool's lock in the child; that must come after the tracer's own handlers, as in the services.
    program = """
import asyncio
import sys
from rayonnage_shared.core.settings import ServiceSettings
from rayonnage_shared.observability.tracing import set_up_tracing

assert "concurrent.futures.thread" not in sys.modules
set_up_tracing("demo", ServiceSettings(_env_file=None, otel_exporter_otlp_endpoint="http://127.0.0.1:9"))
import uvloop

async def main():
    child = await asyncio.create_subprocess_exec("true")
    print("status", await child.wait())

uvloop.run(main())
"""
    with subprocess.Popen(
        [sys.executable, "-c", program], stdout=subprocess.PIPE, text=True, start_new_session=True
    ) as process:
        try:
            assert process.communicate(timeout=PATIENCE_S)[0] == "status 0\n"
        finally:
            with suppress(ProcessLookupError):  # a child that hangs holds the pipe open
                os.killpg(process.pid, signal.SIGKILL)
