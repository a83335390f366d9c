"""Every alert fires for real: the condition is made on a running platform, and Prometheus with the rules finds it.

An hour is a minute in these rules (`scaling`). Slack's part is in `test_slack`; the summary of the test run names the
alerts that cannot be had (`not_fired`).
"""

from __future__ import annotations

import json
import shutil
import sqlite3
import time
from collections.abc import Iterator
from contextlib import closing
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import Any

import httpx2
import pytest

from rayonnage_shared.ml.bundles.champion import POINTER_NAME, Champion, read_champion, write_champion
from rayonnage_shared.ml.catalogue.datasets import DatasetStore
from tests.e2e.platform import Platform, running_platform
from tests.monitoring.alerts import NEED_A_MOUNT, alert_names, not_fired
from tests.monitoring.host import may_mount
from tests.monitoring.scaling import scaled
from tests.monitoring.slack_story import SlackStory
from tests.monitoring.stack import AWAY, MonitoringStack, monitoring_stack
from tests.monitoring.trouble import (
    PRODUCT,
    again_and_again,
    busy_processors,
    locked_database,
    paused,
    restarted_with,
    user_names,
)
from tests.waiting import PATIENCE_S, eventually

pytestmark = [pytest.mark.monitoring, pytest.mark.timeout(420)]

SETTINGS = {
    "PREDICT_THREADS": "1",
    "PREDICT_RATE_LIMIT": "10/second",
    "PREDICTION_LOG_MAX_WAITING": "1500",
    "MLFLOW_TRACKING_URI": "http://127.0.0.1:9",  # nobody listens
    "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0",
    "DRIFT_RETRAIN": "false",
    "LOGIN_FAILURES_PER_ADDRESS": "100000",
}
DRIFTED_ANSWERS, WRONG_ANSWERS = 120, 50
BROKEN_RULE = """
groups:
  - name: broken
    rules: [{ record: "test:broken:sum", expr: "up * on () up" }]
"""


@pytest.fixture(scope="module")
def watched(
    trained_volume: Path, tmp_path_factory: pytest.TempPathFactory, slack_story: SlackStory
) -> Iterator[MonitoringStack]:
    """A platform of these tests' own, to be disturbed; its model was trained 31 days ago.

    `slack_story` is asked for so that its outage passes meanwhile.
    """
    folder = tmp_path_factory.mktemp("alerts")
    volume = folder / "volume"
    shutil.copytree(trained_volume, volume)
    age_champion(volume / "models", timedelta(days=31))
    with (
        running_platform(folder / "platform", SETTINGS, volume=volume) as platform,
        monitoring_stack(
            folder / "stack",
            platform,
            change_rules=scaled,
            change_routes=scaled,
            own_rules={"broken": BROKEN_RULE},
        ) as stack,
    ):
        yield stack


@pytest.fixture(scope="module")
def platform(watched: MonitoringStack) -> Platform:
    return watched.platform


@pytest.fixture(scope="module")
def token(platform: Platform) -> str:
    return platform.admin_token()


@pytest.fixture(scope="module")
def admin(platform: Platform, token: str) -> Iterator[httpx2.Client]:
    with platform.client(token) as client:
        yield client


@pytest.fixture(scope="module")
def predict(platform: Platform, token: str) -> Iterator[httpx2.Client]:
    """Predict itself, past the gateway and its limit."""
    headers = {"Authorization": f"Bearer {token}"}
    limits = httpx2.Limits(max_connections=200)
    with httpx2.Client(base_url=platform.url("predict"), headers=headers, timeout=PATIENCE_S, limits=limits) as client:
        yield client


@pytest.fixture(scope="module", autouse=True)
def drift_job(admin: httpx2.Client) -> str:
    """A drift report in the making, of answers unlike the catalogue, many of them wrong, while the first tests run."""
    answers = []
    for _ in range(DRIFTED_ANSWERS):
        found = admin.post("/predict", json={"designation": "Quarterly invoice of the harbour office, paid in full"})
        assert found.status_code == 200, found.text
        answers.append(found.json())
        time.sleep(0.11)  # below the limit
    for answer in answers[:WRONG_ANSWERS]:
        assert eventually(partial(disagree, admin, answer), 10), answer
    return str(admin.post("/drift", json={"hours": 1}).json()["job_id"])


def disagree(admin: httpx2.Client, answer: dict[str, Any]) -> bool:
    """Give feedback that says otherwise; return False while the prediction is not in the database yet."""
    truth = 40 if answer["category_id"] == 10 else 10
    feedback = admin.post("/feedback", json={"prediction_id": answer["prediction_id"], "category_id": truth})
    return feedback.status_code < 300


def age_champion(models: Path, by: timedelta) -> None:
    champion = read_champion(models)
    assert champion is not None
    path = models / champion.version / "manifest.json"
    manifest = json.loads(path.read_text(encoding="utf-8"))
    manifest["created_at"] = (datetime.now(UTC) - by).isoformat()
    path.write_text(json.dumps(manifest), encoding="utf-8")


def test_what_the_monitoring_says_of_itself(watched: MonitoringStack) -> None:
    watched.fires("Watchdog", "ExporterMissing", "RuleEvaluationFailing", within_s=30)

    assert {labels["job"] for labels in watched.firing("ExporterMissing")} == AWAY
    (failing,) = watched.firing("RuleEvaluationFailing")
    assert failing["rule_group"].endswith(";broken")


def test_a_webhook_that_was_revoked(watched: MonitoringStack) -> None:
    watched.slack.refuses = True
    try:
        watched.amtool("alert", "add", "alertname=HostDiskFull", "severity=page")
        watched.fires("NotificationsFailing", within_s=30)
    finally:
        watched.slack.refuses = False


def test_a_process_that_dies_again_and_again(watched: MonitoringStack, platform: Platform) -> None:
    for _ in range(3):
        started = watched.value('process_start_time_seconds{job="auth"}')
        platform.kill("auth")

        def is_back(before: float | None = started) -> bool:
            return watched.value('process_start_time_seconds{job="auth"}') not in (None, before)

        assert eventually(is_back, 60)
    watched.fires("ProcessRestarting", within_s=20)
    platform.wait_until_ready()


def test_guessed_passwords(watched: MonitoringStack, platform: Platform) -> None:
    names = user_names()
    with platform.client() as anyone:

        def guess() -> None:
            assert anyone.post("/token", data={"username": next(names), "password": "123456"}).status_code in (401, 429)

        with again_and_again(guess, every_s=0.5):
            watched.fires("LoginFailures", within_s=45)


def test_a_user_that_asks_too_often(watched: MonitoringStack, admin: httpx2.Client) -> None:
    with again_and_again(lambda: admin.post("/predict", json=PRODUCT), threads=8):
        watched.fires("RateLimiting", within_s=60)


def test_more_work_than_predict_can_do(
    watched: MonitoringStack, platform: Platform, admin: httpx2.Client, predict: httpx2.Client, sample: Path
) -> None:
    photo = (sample / "exemple.jpg").read_bytes()

    def ask(client: httpx2.Client) -> None:
        files = {"image": ("photo.jpg", photo, "image/jpeg")}
        if client.post("/predict", data=PRODUCT, files=files).status_code == 503:
            time.sleep(0.05)

    with again_and_again(lambda: ask(predict), threads=80):
        watched.fires("PredictNearlyFull", within_s=60)

    # How many requests may wait depends on the machine's speed: here all, and now hardly any.
    with (
        restarted_with(platform, "predict", PREDICT_MAX_WAIT_S="0.01"),
        again_and_again(lambda: ask(predict), threads=80),
        again_and_again(lambda: ask(admin), threads=4, every_s=0.4),
    ):
        watched.fires("PredictRefusesWork", "AvailabilityBurning", within_s=60)
        burns_in_all_windows(watched, "AvailabilityBurning")


def test_slow_answers(watched: MonitoringStack, platform: Platform, admin: httpx2.Client) -> None:
    pid = platform.pid("predict")
    assert pid is not None

    def pause() -> None:  # long enough that whoever asks half a second after an answer waits for half a second
        with paused(pid):
            time.sleep(0.9)

    with (
        again_and_again(lambda: admin.post("/predict", json=PRODUCT), threads=5, every_s=0.5),
        again_and_again(pause, every_s=0.2),
    ):
        watched.fires("LatencyBurning", within_s=60)
        burns_in_all_windows(watched, "LatencyBurning")


def burns_in_all_windows(watched: MonitoringStack, name: str) -> None:
    """Return when the alert has fired by each of its three rules."""
    found: set[str] = set()

    def all_found() -> bool:
        found.update(labels["window"] for labels in watched.firing(name))
        return found == {"1h", "6h", "3d"}

    # Quick answers of the tests before count in the long windows.
    assert eventually(all_found, 120, 0.2), found


def test_a_database_that_takes_no_rows(watched: MonitoringStack, platform: Platform, predict: httpx2.Client) -> None:
    with locked_database(platform), again_and_again(lambda: predict.post("/predict", json=PRODUCT), threads=8):
        watched.fires("PredictionLogBehind", "PredictionLogLosesRows", within_s=90)


def test_answers_that_drift_and_are_wrong(
    watched: MonitoringStack, platform: Platform, admin: httpx2.Client, drift_job: str
) -> None:
    assert eventually(lambda: admin.get(f"/train/jobs/{drift_job}").json()["status"] == "succeeded", 120, 1)
    watched.fires("DriftAlarm", "FeedbackAccuracyLow", within_s=30)

    folder = platform.home / "data" / "drift"
    newest = max(path.name for path in folder.iterdir() if path.name[0].isdecimal())
    old = f"99991231T235959999999Z{newest[-5:]}"  # the name makes it the newest, the text is three days old
    shutil.copytree(folder / newest, folder / f".{old}")
    path = folder / f".{old}" / "drift_report.json"
    report = json.loads(path.read_text(encoding="utf-8"))
    created = (datetime.now(UTC) - timedelta(days=3)).isoformat()
    path.write_text(json.dumps(report | {"id": old, "created_at": created}), encoding="utf-8")
    path.parent.rename(folder / old)
    watched.fires("DriftReportOverdue", within_s=30)


def test_a_job_that_fails(watched: MonitoringStack, platform: Platform, admin: httpx2.Client) -> None:
    name = DatasetStore(platform.home / "data").current()
    assert name is not None
    current = platform.home / "data" / "datasets" / name
    away = current.with_name("away")
    failing = admin.post("/train/text").json()
    current.rename(away)
    try:
        assert eventually(lambda: admin.get(f"/train/jobs/{failing['job_id']}").json()["status"] == "failed", 60)
    finally:
        away.rename(current)
    watched.fires("JobsFailing", within_s=20)


def test_a_host_without_memory(watched: MonitoringStack) -> None:
    with watched.host.used_up_memory(), watched.host.killed_for_memory():
        watched.fires("HostMemoryLow", "HostOutOfMemory", within_s=60)


@pytest.mark.skipif(not may_mount(), reason=NEED_A_MOUNT["HostDiskFull"])
def test_a_disk_that_is_full(watched: MonitoringStack) -> None:
    with watched.host.full_disk(watched.node_exporter.pid):
        watched.fires("HostDiskFull", "HostDiskFilling", within_s=120)


def test_what_takes_an_hour(watched: MonitoringStack) -> None:
    with busy_processors():
        watched.fires("ModelTooOld", "SyncBehind", "HostCpuBusy", within_s=120)


def test_a_worker_that_is_away(watched: MonitoringStack, platform: Platform, admin: httpx2.Client) -> None:
    platform.stop("train-worker")
    job = admin.post("/train/text").json()
    two_hours_ago = (datetime.now(UTC) - timedelta(hours=2)).replace(tzinfo=None).isoformat(" ")
    with closing(sqlite3.connect(platform.home / "data" / "rayonnage.db", timeout=30)) as database, database:
        database.execute("UPDATE jobs SET submitted_at = ? WHERE job_id = ?", (two_hours_ago, job["job_id"]))
    watched.fires("JobsWaiting", "ProcessDown", within_s=30)


def test_a_champion_that_cannot_be_loaded(watched: MonitoringStack, platform: Platform) -> None:
    models = platform.home / "models"
    champion = read_champion(models)
    assert champion is not None
    write_champion(models, Champion.promoted("20200101T000000Z-dead", "test", "a bundle that is not there"))
    try:
        watched.fires("ChampionNotLoaded", within_s=30)
    finally:
        write_champion(models, champion)


def test_predict_without_a_model(watched: MonitoringStack, platform: Platform) -> None:
    platform.stop("predict")
    pointer = platform.home / "models" / POINTER_NAME
    pointer.rename(pointer.with_suffix(".away"))
    try:
        platform.start("predict")
        watched.fires("NoChampion", within_s=60)
    finally:
        pointer.with_suffix(".away").rename(pointer)


def test_a_process_that_the_name_server_does_not_know(watched: MonitoringStack) -> None:
    watched.set_target("predict", None)
    try:
        watched.fires("ProcessMissing", within_s=30)
        assert {labels["job"] for labels in watched.firing("ProcessMissing")} == {"predict"}
    finally:
        watched.set_target("predict", watched.addresses["predict"])


def test_an_exporter_and_alertmanager_that_are_away(watched: MonitoringStack) -> None:
    watched.node_exporter.stop()
    watched.alertmanager.stop()
    try:
        watched.fires("ExporterDown", "AlertmanagerUnreachable", within_s=45)
    finally:
        watched.alertmanager.start()
        watched.node_exporter.start()


def test_every_alert_has_fired_but_those_that_cannot(watched: MonitoringStack) -> None:
    """Stands last: it counts what the tests above have seen."""
    assert alert_names() - watched.seen == not_fired().keys()
    assert not watched.slack.faults
