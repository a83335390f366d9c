"""HTTP of drift reports, and what Prometheus is shown."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path

import httpx2
import pytest
import structlog
from fastapi import FastAPI
from prometheus_client.parser import text_string_to_metric_families
from pydantic import SecretStr

from rayonnage_shared.jobs.leases import JobLeases
from rayonnage_shared.jobs.queue import JobQueue
from rayonnage_shared.ml.bundles.champion import Champion, write_champion
from rayonnage_train.app import create_app
from rayonnage_train.drift_routes import prefers_html
from rayonnage_train.metrics import TrainMetrics
from rayonnage_train.report_links import LINK_LIFE_S
from rayonnage_train.settings import TrainSettings
from tests.tokens import SECRET
from tests.unit.shared.drift.reports import MADE_AT, write_report
from tests.waiting import PATIENCE_S, eventually_async

pytestmark = pytest.mark.usefixtures("own_metrics")

OLDER, NEWER = "20261120T120000000000Z-0a1b", "20261121T120000000000Z-0a1b"


@pytest.fixture
async def app(tmp_path: Path, database_url: str) -> AsyncIterator[FastAPI]:
    built = create_app(
        TrainSettings(
            _env_file=None,
            database_url=database_url,
            models_path=tmp_path / "models",
            data_path=tmp_path / "data",
            algorithm="HS256",
            secret_key=SecretStr(SECRET),
            auth_url="http://127.0.0.1:9",
            train_max_queued=2,
        )
    )
    write_champion_at(tmp_path / "models")
    async with built.router.lifespan_context(built):
        yield built


def write_champion_at(models: Path) -> None:
    models.mkdir()
    write_champion(models, Champion.promoted("20261121T081500Z-3f2a", "claire", "first"))


async def test_a_report_is_queued_and_can_be_followed_at_its_location(app: FastAPI, admin: httpx2.AsyncClient) -> None:
    answer = await admin.post("/drift", json={"hours": 48})
    assert (answer.status_code, answer.json()["kind"], answer.json()["submitted_by"]) == (202, "drift", "claire")
    assert (await admin.get(answer.headers["location"])).json() == answer.json()
    assert (await admin.get("/train/jobs", params={"kind": "drift"})).json()["jobs"] == [answer.json()]
    assert (await admin.get("/train/jobs", params={"kind": "train"})).json()["jobs"] == []
    held = JobLeases(app.state.train.engine).claim(["drift"], 60)
    assert held is not None
    assert held.request == {"hours": 48}
    assert (await admin.post("/drift")).status_code == 202
    assert JobLeases(app.state.train.engine).claim(["drift"], 60) is None, "reports never run side by side"


@pytest.mark.parametrize("body", [{"hours": 0}, {"hours": 24 * 367}, {"hours": "a day"}, {"days": 1}, []])
async def test_what_cannot_be_reported_on_is_refused(admin: httpx2.AsyncClient, body: object) -> None:
    answer = await admin.post("/drift", json=body)
    assert (answer.status_code, answer.json()["code"]) == (422, "invalid_input")


async def test_too_many_waiting_reports_and_a_missing_champion_are_refused(
    admin: httpx2.AsyncClient, tmp_path: Path
) -> None:
    for _ in range(2):
        assert (await admin.post("/drift")).status_code == 202
    assert (await admin.post("/drift")).json()["code"] == "queue_full"
    (tmp_path / "models" / "champion.json").unlink()
    assert (await admin.post("/drift")).json()["code"] == "model_not_found"


async def test_users_read_reports_newest_first_and_ask_for_none(user: httpx2.AsyncClient, tmp_path: Path) -> None:
    assert (await user.get("/drift")).json() == {"reports": []}
    for one in (OLDER, NEWER):
        write_report(tmp_path / "data", one)
    (newest,) = (await user.get("/drift", params={"limit": 1})).json()["reports"]
    assert (newest["id"], newest["alarms"], newest["feedback_alarm"], newest["rows"]) == (
        NEWER,
        ["language"],
        True,
        120,
    )
    assert newest["decision"]["reason"].startswith("No retraining")
    assert len((await user.get("/drift")).json()["reports"]) == 2
    assert (await user.get("/drift", params={"limit": 101})).status_code == 422
    assert (await user.post("/drift")).status_code == 403
    for path in ("/drift", f"/drift/{NEWER}"):
        assert (await user.get(path, headers={"Authorization": ""})).status_code == 401


async def test_a_report_is_json_unless_html_is_asked_for(user: httpx2.AsyncClient, tmp_path: Path) -> None:
    write_report(tmp_path / "data", NEWER)
    answer = await user.get(f"/drift/{NEWER}")
    assert (answer.headers["content-type"], answer.headers["vary"]) == ("application/json", "Accept")
    assert answer.json()["columns"][0]["drift"] is True
    page = await user.get(f"/drift/{NEWER}", headers={"Accept": "text/html,application/xhtml+xml;q=0.9"})
    assert page.headers["content-type"] == "text/html; charset=utf-8"
    assert "Rayonnage: drift" in page.text
    policy = page.headers["content-security-policy"]
    assert policy.startswith("sandbox allow-scripts; default-src 'none'; ")
    assert "allow-same-origin" not in policy and "connect-src" not in policy


async def test_a_link_opens_the_page_without_a_token(app: FastAPI, user: httpx2.AsyncClient, tmp_path: Path) -> None:
    write_report(tmp_path / "data", NEWER)
    with structlog.testing.capture_logs() as events:
        answer = await user.post(f"/drift/{NEWER}/link")
        assert answer.status_code == 201
        assert answer.headers["cache-control"] == "no-store"
        url = answer.json()["url"]
        left_s = (datetime.fromisoformat(answer.json()["expires_at"]) - datetime.now(UTC)).total_seconds()
        assert LINK_LIFE_S - 30 < left_s <= LINK_LIFE_S
        async with anybody(app) as browser:
            page = await browser.get(url)
    assert page.status_code == 200
    assert "Rayonnage: drift" in page.text
    assert page.headers["content-type"] == "text/html; charset=utf-8"
    assert page.headers["content-security-policy"].startswith("sandbox allow-scripts; default-src 'none'; ")
    assert page.headers["referrer-policy"] == "no-referrer"
    assert page.headers["cache-control"] == "private, no-store"
    signature = url.rpartition("signature=")[2]
    assert len(signature) == 43
    assert signature not in repr(events), "no log line has the link"
    (created,) = (event for event in events if event["event"] == "drift.link.created")
    assert (created["report_id"], created["user"]) == (NEWER, "claire")


async def test_a_link_is_of_no_use_for_anything_else(app: FastAPI, user: httpx2.AsyncClient, tmp_path: Path) -> None:
    for one in (OLDER, NEWER):
        write_report(tmp_path / "data", one)
    url = (await user.post(f"/drift/{NEWER}/link")).json()["url"]
    query = url.partition("?")[2]
    expires, signature = (part.partition("=")[2] for part in query.split("&"))
    async with anybody(app) as browser:
        for altered in (
            f"/drift/{OLDER}/page?{query}",
            f"/drift/{NEWER}/page",
            f"/drift/{NEWER}/page?expires={expires}",
            f"/drift/{NEWER}/page?expires={int(expires) + 1}&signature={signature}",
            f"/drift/{NEWER}/page?expires={expires}&signature={signature[:-1]}",
            f"/drift/{NEWER}/page?expires={expires}&signature=%C3%A9",
        ):
            refused = await browser.get(altered)
            assert (refused.status_code, refused.json()["code"]) == (403, "link_not_valid"), altered
        for other in (f"/drift/{NEWER}?{query}", f"/drift?{query}", f"/train/jobs?{query}"):
            assert (await browser.get(other)).status_code == 401
        assert (await browser.post(f"/drift/{NEWER}/link?{query}")).status_code == 401
        bearer = {"Authorization": f"Bearer {signature}"}
        assert (await browser.get("/drift", headers=bearer)).status_code == 401


async def test_a_link_to_what_is_no_report_is_refused(user: httpx2.AsyncClient) -> None:
    for report_id in (NEWER, "..%2f..", "%00"):
        assert (await user.post(f"/drift/{report_id}/link")).status_code == 404


def anybody(app: FastAPI) -> httpx2.AsyncClient:
    """Return a client without a token."""
    return httpx2.AsyncClient(transport=httpx2.ASGITransport(app), base_url="http://test")


async def test_what_is_no_report_is_a_problem(user: httpx2.AsyncClient, tmp_path: Path) -> None:
    write_report(tmp_path / "data", NEWER)
    (tmp_path / "data" / "drift" / "references").mkdir()
    for report_id in (
        "20261121T120000000000Z-ffff",
        "..%2fdrift",
        "..%2f..",
        "%00",
        "references",
        NEWER.lower(),
        "a" * 64,
    ):
        for accept in ("*/*", "text/html"):
            answer = await user.get(f"/drift/{report_id}", headers={"Accept": accept})
            assert answer.status_code == 404, report_id
            assert answer.headers["content-type"] == "application/problem+json"


@pytest.mark.parametrize(
    ("accept", "html"),
    [
        ("", False),
        ("*/*", False),
        ("application/json", False),
        ("text/html", True),
        ("TEXT/HTML; charset=utf-8", True),
        ("text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8", True),
        ("application/json, text/html;q=0.9", False),
        ("text/html;q=0", False),
        ("text/html;q=high", False),
    ],
)
def test_html_is_given_to_those_who_name_it(accept: str, html: bool) -> None:
    assert prefers_html(accept) is html


def samples(page: str) -> dict[tuple[str, ...], float]:
    """Return the platform's own samples by name and label values."""
    return {
        (sample.name, *sample.labels.values()): sample.value
        for family in text_string_to_metric_families(page)
        for sample in family.samples
        if family.name.startswith(("rayonnage_jobs", "rayonnage_drift", "rayonnage_feedback"))
    }


async def shown(client: httpx2.AsyncClient) -> dict[tuple[str, ...], float]:
    answer = await client.get("/metrics")
    assert answer.status_code == 200
    return samples(answer.text)


async def test_prometheus_sees_the_table_of_jobs(app: FastAPI, admin: httpx2.AsyncClient) -> None:
    found = await shown(admin)
    assert found[("rayonnage_jobs", "train", "queued")] == 0
    assert found[("rayonnage_jobs_oldest_waiting_seconds",)] == 0
    queue: JobQueue = app.state.train.queue
    queue.submit("train", {}, by="claire", concurrency_group="models")
    queue.request_cancel(queue.submit("drift", {}, by="claire", concurrency_group="drift").job_id)
    found = await shown(admin)
    jobs = {key[1:]: value for key, value in found.items() if key[0] == "rayonnage_jobs"}
    assert len(jobs) == 15, "three kinds, five states"
    assert {key for key, value in jobs.items() if value} == {("train", "queued"), ("drift", "cancelled")}
    assert found[("rayonnage_jobs_oldest_waiting_seconds",)] > 0
    assert found[("rayonnage_feedback_rows",)] == 0


async def test_prometheus_sees_the_newest_report(admin: httpx2.AsyncClient, tmp_path: Path) -> None:
    assert not any(name.startswith("rayonnage_drift") for name, *_ in await shown(admin))
    write_report(tmp_path / "data", OLDER)
    await shown(admin)
    write_report(tmp_path / "data", NEWER)
    found = await shown(admin)
    expected = {
        ("rayonnage_drift_distance", "language"): 1.2,
        ("rayonnage_drift_distance", "category"): 0.05,
        ("rayonnage_drift_threshold", "photo_confidence"): 0.15,
        ("rayonnage_drift_alarm", "language"): 1,
        ("rayonnage_drift_alarm", "photo_confidence"): 0,
        ("rayonnage_drift_rows", "reference"): 206,
        ("rayonnage_drift_rows", "current"): 120,
        ("rayonnage_drift_report_timestamp_seconds",): MADE_AT.timestamp(),
        ("rayonnage_feedback_accuracy",): 0.5,
        ("rayonnage_feedback_expected_accuracy",): 0.8,
        ("rayonnage_feedback_labelled",): 80,
        ("rayonnage_feedback_alarm",): 1,
    }
    assert found | expected == found
    assert ("rayonnage_drift_distance", "photo_confidence") not in found, "there were too few rows"


async def test_without_a_database_the_page_is_there_and_its_samples_are_not(
    app: FastAPI, admin: httpx2.AsyncClient, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_report(tmp_path / "data", NEWER)
    assert ("rayonnage_jobs", "train", "queued") in await shown(admin)

    def broken() -> None:
        raise OSError("the database is away")

    monkeypatch.setattr(app.state.train.queue.__class__, "counts", lambda _queue: broken())
    found = await shown(admin)
    assert not any(name.startswith("rayonnage_jobs") or name == "rayonnage_feedback_rows" for name, *_ in found)
    assert found[("rayonnage_drift_alarm", "language")] == 1
    write_report(tmp_path / "data", "20261122T120000000000Z-0a1b")
    (tmp_path / "data" / "drift" / "20261122T120000000000Z-0a1b" / "drift_report.json").write_text("half a f")
    assert not await shown(admin)


async def test_a_database_that_hangs_holds_up_neither_the_page_nor_more_than_one_thread(
    app: FastAPI, tmp_path: Path
) -> None:
    released, asked, answered = threading.Event(), [], []

    class Hanging:
        def counts(self) -> None:
            asked.append(threading.get_ident())
            answered.append(released.wait(PATIENCE_S))

    metrics = TrainMetrics(Hanging(), app.state.train.engine, tmp_path / "data")  # type: ignore[arg-type]
    for _ in range(3):
        await metrics.refresh(within_s=0.05)
    assert not answered, "nobody waited for the database"
    assert await eventually_async(lambda: asked)
    assert len(asked) == 1
    assert list(metrics.collect()) == []
    released.set()
    await asyncio.wait_for(metrics.refresh(), PATIENCE_S)


async def test_a_broken_report_is_a_problem_and_the_others_are_listed(user: httpx2.AsyncClient, tmp_path: Path) -> None:
    for one in (OLDER, NEWER):
        write_report(tmp_path / "data", one)
    (tmp_path / "data" / "drift" / NEWER / "drift_report.json").write_text("half a f")

    listed, broken = await user.get("/drift"), await user.get(f"/drift/{NEWER}")

    assert (listed.status_code, [one["id"] for one in listed.json()["reports"]]) == (200, [OLDER])
    assert (broken.status_code, broken.json()["code"]) == (500, "drift_report_broken")


async def test_a_report_is_not_queued_while_the_champion_pointer_is_broken(
    admin: httpx2.AsyncClient, tmp_path: Path
) -> None:
    (tmp_path / "models" / "champion.json").write_text("garbage{")
    answer = await admin.post("/drift")
    assert (answer.status_code, answer.json()["code"]) == (500, "champion_broken")
