"""One request through the whole platform, as a collector of traces and the logs show it."""

from __future__ import annotations

import os
from functools import partial
from pathlib import Path

import httpx2
import pytest

from tests.collector import Collector, SentSpan
from tests.e2e.api import finished_job
from tests.e2e.command_line import rayonnage
from tests.e2e.conftest import MakePlatform
from tests.e2e.platform import Platform
from tests.waiting import PATIENCE_S, eventually

SERVER, CLIENT = 2, 3  # kinds by OTLP
CALLER_TRACE, CALLER_SPAN = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"


def logs_of(platform: Platform, request_id: str) -> list[str]:
    """Return what `rayonnage logs --request` shows, a line each."""
    shown = rayonnage(platform.home, "logs", "--request", request_id)
    assert shown.returncode == 0, shown.stderr
    return shown.stdout.splitlines()


def test_a_prediction_is_one_trace_through_gateway_and_predict(
    platform: Platform, collector: Collector, sample: Path
) -> None:
    with platform.client(platform.admin_token()) as client:
        answer = client.post(
            "/predict",
            data={"designation": "piscine"},
            files={"image": (sample / "exemple.jpg").read_bytes()},
            headers={"traceparent": f"00-{CALLER_TRACE}-{CALLER_SPAN}-01", "tracestate": "x=1", "baggage": "a=b"},
        )
    assert answer.status_code == 200

    def of_this_trace(service: str) -> list[SentSpan]:
        return [span for span in collector.of(service) if span.trace_id == CALLER_TRACE]

    assert eventually(lambda: any(span.kind == SERVER for span in of_this_trace("predict")))
    assert eventually(lambda: any(span.kind == SERVER for span in of_this_trace("gateway")))
    trace = of_this_trace("gateway") + of_this_trace("predict")
    by = {(span.service, span.name): span for span in trace}
    door, hop = by["gateway", "POST /predict"], by["gateway", "POST predict"]
    served = by["predict", "POST /predict"]
    assert (door.kind, door.parent) == (SERVER, CALLER_SPAN)
    assert (hop.kind, hop.parent) == (CLIENT, door.span_id)
    assert (served.kind, served.parent) == (SERVER, hop.span_id)
    assert door.begin_ns <= hop.begin_ns <= served.begin_ns < served.end_ns
    assert hop.end_ns <= door.end_ns, "predict's span may end after both: its answer is sent by then"
    stages = {span.name: span for span in trace if span.parent == served.span_id}
    assert set(stages) == {"read", "prepare", "text", "image", "fusion"}
    assert sum(stage.seconds for stage in stages.values()) <= served.seconds
    request_id = answer.headers["x-request-id"]
    for service in ("gateway", "predict"):
        assert eventually(partial(platform.has_logged, service, request_id)), (
            "an answer is logged when it has been sent"
        )
    assert {span.attributes["rayonnage.request_id"] for span in (door, served)} == {request_id}

    lines = logs_of(platform, request_id)
    assert sorted(line.split()[0] for line in lines) == ["gateway", "predict"]
    assert all(CALLER_TRACE in line and request_id in line for line in lines)


def test_a_job_is_a_span_and_its_lines_belong_to_the_request(platform: Platform, collector: Collector) -> None:
    with platform.client(platform.admin_token()) as client:
        answer = client.post("/train/text", json={"text": "tfidf-svm", "promote": "never"})
        job_id = answer.json()["job_id"]
        assert finished_job(client, job_id)["status"] == "succeeded"

    def spans() -> list[SentSpan]:
        return [span for span in collector.of("train-runner") if span.attributes.get("job_id") == job_id]

    assert eventually(spans)
    assert eventually(lambda: platform.has_logged("train-worker", "job.process_ended", job_id)), (
        "the worker's last line of it"
    )
    (job,) = spans()
    assert (job.name, job.parent) == ("job train", "")
    lines = logs_of(platform, answer.headers["x-request-id"])
    services = [line.split()[0] for line in lines]
    assert {"gateway", "train", "train-worker", "train-runner"} <= set(services)
    assert any("job.process_ended" in line for line in lines)


def test_without_its_collector_the_platform_answers_and_stops_as_ever(make_platform: MakePlatform) -> None:
    platform = make_platform({"OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:9"})
    with platform.client(platform.admin_token()) as client:
        statuses = {client.post("/predict", json={"designation": "piscine"}).status_code for _ in range(50)}
    assert statuses == {200}
    assert eventually(lambda: platform.has_logged("predict", "traces.not_taken"))
    text = (platform.supervisor.logs / "predict.log").read_text()
    assert text.count("traces.not_taken") == 1 and "Traceback" not in text
    pid = platform.pid("predict")
    assert pid is not None
    platform.stop("predict")
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)
    with pytest.raises(httpx2.ConnectError):
        httpx2.get(f"{platform.url('predict')}/health/live", timeout=PATIENCE_S)
