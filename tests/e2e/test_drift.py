"""Drift over real processes: what is sent changes, a report says so, and a training is queued."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from datetime import datetime, timedelta
from pathlib import Path

import httpx2
import pytest

from rayonnage_shared.drift.report_files import HTML_NAME
from rayonnage_shared.ml.bundles.champion import read_champion
from tests.e2e.api import add_user, catalogue, finished_job, ingest, problem, start_training
from tests.e2e.platform import Platform, running_platform
from tests.e2e.test_prediction_log import logged
from tests.unit.shared.drift.reports import write_report
from tests.waiting import PATIENCE_S, eventually

ANSWERS = 110
PADDED = "20200101T000000000000Z-0000"


@pytest.fixture(scope="module")
def shop(trained_volume: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Platform]:
    """A platform whose champion is ten days old, so that no cool-down keeps it from training."""
    volume = tmp_path_factory.mktemp("aged") / "volume"
    shutil.copytree(trained_volume, volume)
    champion = read_champion(volume / "models")
    assert champion is not None
    path = volume / "models" / champion.version / "manifest.json"
    manifest = json.loads(path.read_text(encoding="utf-8"))
    created_at = datetime.fromisoformat(manifest["created_at"]) - timedelta(days=10)
    path.write_text(json.dumps(manifest | {"created_at": created_at.isoformat()}), encoding="utf-8")
    settings = {"DRIFT_MIN_ROWS": str(ANSWERS), "DRIFT_RETRAIN_COLUMNS": "language"}
    with running_platform(tmp_path_factory.mktemp("drifting"), settings, volume=volume) as running:
        yield running


@pytest.fixture(scope="module")
def admin(shop: Platform) -> Iterator[httpx2.Client]:
    with shop.client(shop.admin_token()) as client:
        yield client


@pytest.fixture(scope="module")
def newer(shop: Platform, admin: httpx2.Client, sample: Path) -> str:
    """The dataset version that was ingested before English titles were sent."""
    answer = ingest(admin, catalogue(sample, 0, 40).labelled)
    assert answer.status_code == 201, answer.text
    for number in range(ANSWERS):
        title = f"Large blue swimming pool cover for the whole family, size {number}"
        assert admin.post("/predict", json={"designation": title}).status_code == 200
    assert eventually(lambda: len(logged(shop)) == ANSWERS)
    return str(answer.json()["dataset_version"])


def test_english_titles_are_drift_and_cause_one_training_with_the_reason(
    shop: Platform, admin: httpx2.Client, newer: str
) -> None:
    answer = admin.post("/drift", json={"hours": 1})
    assert answer.status_code == 202, answer.text
    job_id = answer.json()["job_id"]
    assert answer.headers["location"] == f"/train/jobs/{job_id}"
    found = finished_job(admin, job_id)["result"]

    assert found["drift"] and {"language", "category", "embedding"} <= {*found["alarms"]}
    decision = found["decision"]
    assert decision["retrain"] is True
    assert decision["reason"].startswith(f"A training on {newer} is queued: drift in language")
    training = admin.get(f"/train/jobs/{decision['job_id']}").json()
    assert (training["kind"], training["submitted_by"]) == ("train", f"drift {found['report']}")
    assert decision["reason"] in training["log_tail"][0]
    assert [job["job_id"] for job in admin.get("/train/jobs", params={"kind": "train"}).json()["jobs"]] == [
        decision["job_id"]
    ]
    admin.delete(f"/train/jobs/{decision['job_id']}")

    report = admin.get(f"/drift/{found['report']}").json()
    assert report["decision"] == decision
    page = admin.get(f"/drift/{found['report']}", headers={"Accept": "text/html"})
    assert page.headers["content-type"].startswith("text/html")
    assert page.headers["content-security-policy"].startswith("sandbox allow-scripts; default-src 'none'")
    assert "Rayonnage: drift" in page.text
    metrics = httpx2.get(shop.metrics_url("train"), timeout=PATIENCE_S).text
    assert 'rayonnage_drift_alarm{column="language"} 1.0' in metrics
    assert 'rayonnage_jobs{kind="drift",status="succeeded"} 1.0' in metrics


def test_a_cancelled_training_keeps_drift_from_no_other(admin: httpx2.Client, newer: str) -> None:
    training = start_training(admin, "/train/text", text="tfidf-svm", promote="never")
    assert eventually(lambda: admin.get(f"/train/jobs/{training}").json()["status"] == "running")
    assert admin.delete(f"/train/jobs/{training}").status_code == 202
    assert eventually(lambda: admin.get(f"/train/jobs/{training}").json()["status"] == "cancelled")

    decision = finished_job(admin, admin.post("/drift", json={"hours": 1}).json()["job_id"])["result"]["decision"]

    assert decision["retrain"] is True, decision["reason"]
    assert newer in decision["reason"]
    admin.delete(f"/train/jobs/{decision['job_id']}")


def test_users_read_reports_and_a_large_page_comes_through_the_gateway_whole(
    shop: Platform, admin: httpx2.Client
) -> None:
    write_report(shop.home / "data", PADDED)
    path = shop.home / "data" / "drift" / PADDED / HTML_NAME
    with path.open("a", encoding="utf-8") as file:
        file.write("<!-- é -->" * 1_000_000)
    add_user(admin, "operator", "a-long-password")
    with shop.client(shop.token("operator", "a-long-password")) as user:
        assert PADDED in [one["id"] for one in user.get("/drift").json()["reports"]]
        page = user.get(f"/drift/{PADDED}", headers={"Accept": "text/html"})
        assert len(page.content) > 10_000_000
        assert page.content == path.read_bytes()
        problem(user.get("/drift/20200101T000000000000Z-ffff"), 404, "drift_report_not_found")
        problem(user.post("/drift"), 403)
        url = user.post(f"/drift/{PADDED}/link").json()["url"]
    with shop.client() as nobody:
        problem(nobody.get("/drift"), 401)
        opened = nobody.get(url)
        assert opened.content == path.read_bytes()
        assert opened.headers["referrer-policy"] == "no-referrer"
        problem(nobody.get(url.replace(PADDED, PADDED.replace("2020", "2021"))), 403, "link_not_valid")
    signature = url.rpartition("signature=")[2]
    assert not [file.name for file in (shop.home / "logs").iterdir() if signature in file.read_text(encoding="utf-8")]
