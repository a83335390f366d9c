"""How the state is drawn: what must be read at a glance, on large terminals and on small ones."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
from rich.console import Console

from rayonnage_shared.cli.dashboard_panels import TWO_COLUMNS_FROM, drawn
from rayonnage_shared.drift.schemas import ColumnDrift, DriftDecision, DriftReport, Performance
from rayonnage_shared.jobs.schemas import Job
from rayonnage_shared.ops.platform_state import ChampionState, LogState, Picture, ServiceState, Traffic

NOW = datetime(2026, 11, 21, 12, 0, tzinfo=UTC)
VERSION = "20261121T081500Z-3f2a"


def service(name: str, trouble: str | None = None) -> ServiceState:
    return ServiceState(name, trouble, 1, 4711, timedelta(hours=2, minutes=5), 123e6, 0)


def job(status: str, **changes: object) -> Job:
    facts = {
        "job_id": "01JABCDEF",
        "kind": "train",
        "status": status,
        "stage": "text",
        "progress": 0.4,
        "message": "fitting [1 of 3]",
        "attempts": 1,
        "submitted_by": "admin",
        "submitted_at": NOW - timedelta(minutes=3),
        "started_at": NOW - timedelta(minutes=2),
        "finished_at": None,
        "error": None,
        "log_tail": [],
        "result": None,
    }
    return Job.model_validate(facts | changes)


def column(name: str, distance: float, *, drift: bool) -> ColumnDrift:
    return ColumnDrift(
        name=name,
        measure="ks",
        distance=distance,
        threshold=0.1,
        p_value=0.5,
        drift=drift,
        what="nothing much",
        reference_rows=500,
        current_rows=300,
    )


REPORT = DriftReport(
    id="20261121T100000000000Z-0a1b",
    created_at=NOW - timedelta(hours=2),
    version=VERSION,
    dataset_version="20261120T080000Z-1a2b",
    since=NOW - timedelta(days=1),
    until=NOW,
    answers=400,
    reference_rows=500,
    current_rows=300,
    enough_rows=True,
    drift=True,
    columns=[column("confidence", 0.25, drift=True), column("title_words", 0.02, drift=False)],
    performance=Performance(
        since=NOW - timedelta(days=30),
        labelled=120,
        accuracy=0.71,
        expected_accuracy=0.86,
        expected_rows=500,
        accepted=80,
        accepted_precision=0.9,
        promised_precision=0.95,
        p_value=0.001,
        alarm=True,
        what="right less often",
    ),
    decision=DriftDecision(retrain=True, reason="confidence has fallen", job_id="01JXYZ"),
    evidently=None,
    evidently_note=None,
)
PICTURE = Picture(
    at=NOW,
    services=(service("auth"), service("predict", "answers 503: no champion is loaded"), service("gateway")),
    champion=ChampionState(
        VERSION, "tfidf-embedding + efficientnet-lite0", NOW - timedelta(days=3), 0.81, 0.86, frozenset({VERSION})
    ),
    jobs=(job("running"), job("failed", error="ValueError: [/broken]", finished_at=NOW)),
    traffic=Traffic(30.0, 12.5, 0.0, 0.4, 10.0, 0.012, 0.087, 0.8, 2.0),
    drift=REPORT,
    log=LogState(1234, 5, 0),
)


def shown(picture: Picture, width: int = 140) -> str:
    console = Console(width=width, height=60, record=True, force_terminal=False, file=None, quiet=False)
    with console.capture() as captured:
        console.print(drawn(picture, width))
    return captured.get()


def test_a_glance_says_what_is_down_and_why() -> None:
    text = shown(PICTURE)

    assert "not ready: predict" in text.splitlines()[0]
    assert "no champion is loaded" in text
    assert "all processes are ready" in shown(replace(PICTURE, services=(service("auth"),)))


@pytest.mark.parametrize(
    "fact",
    [
        VERSION,
        "tfidf-embedding + efficientnet-lite0",
        "3 d 0 h ago",
        "macro 0.810, weighted 0.860",
        "12.5/s at the gateway",
        "p50 12 ms, p99 87 ms",
        "80% accepted",
        "fitting [1 of 3]",
        "ValueError: [/broken]",
        "ALARM: confidence",
        "2.5 × the threshold",
        "0.710 right of 120, 0.860 on the test split",
        "confidence has fallen",
        "1234 written, 5 waiting, 0 lost",
        "123 MB",
    ],
)
def test_each_fact_is_in_the_picture(fact: str) -> None:
    assert fact in shown(PICTURE)


def test_predict_that_still_serves_another_version_is_shown() -> None:
    champion = PICTURE.champion
    assert champion is not None
    behind = replace(PICTURE, champion=replace(champion, served=frozenset({"20261101T000000Z-aaaa"})))

    assert "20261101T000000Z-aaaa" in shown(behind)
    assert "predict serves" not in shown(PICTURE)


def test_an_empty_platform_says_what_to_do() -> None:
    empty = Picture(NOW, (), None, (), None, None, None, {"jobs": "there is no database yet"})
    text = shown(empty)

    for words in ("rayonnage train", "make monitor", "there is no database yet", "computed after the next refresh"):
        assert words in text


@pytest.mark.parametrize("width", [TWO_COLUMNS_FROM, TWO_COLUMNS_FROM - 1, 80, 60, 40, 20])
def test_no_terminal_is_too_narrow(width: int) -> None:
    lines = shown(PICTURE, width).splitlines()

    assert max(map(len, lines)) <= width
    assert any("services" in line for line in lines)
