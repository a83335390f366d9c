"""Several processes of predict behind one port: one service to all who look, in metrics, at a crash and at a stop."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from itertools import repeat
from pathlib import Path

import httpx2
import pytest
from prometheus_client.parser import text_string_to_metric_families

from rayonnage_shared.core import host
from rayonnage_shared.core.prefork import workers_folder
from rayonnage_shared.ops.supervision import MARK
from tests.e2e.api import finished_job, start_training
from tests.e2e.platform import Platform, running_platform
from tests.waiting import eventually

WORKERS = 2
REQUESTS = 60


@pytest.fixture(scope="module")
def platform(trained_volume: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Platform]:
    """A platform whose predict is two workers; each test leaves them running."""
    settings = {"PREDICT_WORKERS": str(WORKERS)}
    with running_platform(tmp_path_factory.mktemp("workers"), settings, volume=trained_volume) as running:
        yield running


@pytest.fixture
def admin(platform: Platform) -> Iterator[httpx2.Client]:
    with platform.client(platform.admin_token()) as client:
        yield client


def workers(platform: Platform) -> list[int]:
    """Return the process ids of predict's workers."""
    predicts = [
        pid
        for pid in host.marked(MARK, str(platform.supervisor.folder))
        if host.command_line(pid).endswith("-m rayonnage_predict")
    ]
    return [pid for pid in predicts if pid != platform.pid("predict")]


def metrics(platform: Platform) -> dict[str, list[tuple[dict[str, str], float]]]:
    """Return the samples of a scrape by name."""
    found: dict[str, list[tuple[dict[str, str], float]]] = {}
    text = httpx2.get(platform.metrics_url("predict")).text
    for family in text_string_to_metric_families(text):
        for sample in family.samples:
            found.setdefault(sample.name, []).append((sample.labels, sample.value))
    return found


def total(platform: Platform, name: str) -> float:
    return sum(value for _labels, value in metrics(platform).get(name, []))


def predict(client: httpx2.Client) -> int:
    return client.post("/predict", json={"designation": "piscine gonflable"}).status_code


def predict_all_at_once(platform: Platform, count: int = REQUESTS) -> list[int]:
    """Ask on connections of each caller's own, straight at predict, so that both workers get some."""
    token = platform.admin_token()

    def ask(_number: int) -> int:
        with httpx2.Client(base_url=platform.url("predict"), headers={"Authorization": f"Bearer {token}"}) as client:
            return predict(client)

    with ThreadPoolExecutor(8) as threads:
        return list(threads.map(ask, range(count)))


def test_a_scrape_shows_what_all_workers_did(platform: Platform) -> None:
    assert predict_all_at_once(platform) == [200] * REQUESTS

    both = workers(platform)
    assert len(both) == WORKERS
    logs = [platform.supervisor.logs / f"predict-{number}.log" for number in (1, 2)]
    answered = [path.read_text(encoding="utf-8").count('"path":"/predict"') for path in logs]
    assert sum(answered) == REQUESTS and min(answered) > 0, "a worker had nothing to do"
    for _ in range(10):  # whichever worker answers
        found = metrics(platform)
        assert sum(value for _labels, value in found["rayonnage_predictions_total"]) == REQUESTS
        assert found["rayonnage_prediction_confidence_count"] == [({}, REQUESTS)]
        (info,) = found["rayonnage_champion_info"]
        assert info[1] == 1
        ((_none, created),) = found["rayonnage_champion_created_timestamp_seconds"]
        assert 0 < time.time() - created < 3600
        assert found["rayonnage_predict_in_flight"] == [({}, 0)]
        assert found["process_resident_memory_bytes"][0][1] > 200_000_000, "of both"
        assert len(found["process_cpu_seconds_total"]) == 1
    assert eventually(lambda: total(platform, "rayonnage_prediction_log_written_total") == REQUESTS)
    folder = workers_folder("rayonnage_predict", int(platform.values["PREDICT_PORT"]))
    owners = {path.stem.rpartition("_")[2] for path in folder.glob("*.db")}
    assert owners == {"1", "2"}, "a metric was made before the worker knew its number"


def test_a_worker_that_is_killed_is_replaced_and_no_request_fails(platform: Platform, admin: httpx2.Client) -> None:
    with platform.client(platform.admin_token()) as other, ThreadPoolExecutor(2) as threads:
        before, counted_before = workers(platform), total(platform, "rayonnage_predictions_total")
        asked = [threads.submit(lambda client: list(map(predict, repeat(client, 150))), one) for one in (admin, other)]
        time.sleep(0.3)
        os.kill(before[0], signal.SIGKILL)
        assert {status for one in asked for status in one.result()} == {200}
    counted = total(platform, "rayonnage_predictions_total")
    assert counted - counted_before >= 299, (
        "what the killed one had counted is not lost; a request under way may have been sent again"
    )
    assert eventually(lambda: len(workers(platform)) == WORKERS and workers(platform) != before, 60)
    platform.wait_until_ready()
    assert before[1] in workers(platform)
    cpu = total(platform, "process_cpu_seconds_total")
    assert predict(admin) == 200
    assert total(platform, "rayonnage_predictions_total") == counted + 1
    assert total(platform, "process_cpu_seconds_total") >= cpu


def test_predict_is_ready_when_all_workers_are(platform: Platform) -> None:
    (stopped, _other) = workers(platform)
    os.kill(stopped, signal.SIGSTOP)
    try:
        assert eventually(lambda: "worker" in (platform.supervisor.unready().get("predict") or ""), within_s=30)
    finally:
        os.kill(stopped, signal.SIGCONT)
    platform.wait_until_ready()


def test_no_worker_outlives_the_parent(platform: Platform) -> None:
    before = workers(platform)
    platform.kill("predict")
    assert host.wait_until_gone(before, 10)
    platform.wait_until_ready()
    assert len(workers(platform)) == WORKERS


def test_a_new_champion_serves_in_each_and_is_the_only_one_shown(platform: Platform, admin: httpx2.Client) -> None:
    assert set(predict_all_at_once(platform)) == {200}
    champion = admin.get("/models").json()["champion"]
    job = finished_job(admin, start_training(admin, "/train/text", text="tfidf-svm", promote="always"))
    version = job["result"]["version"]

    def shown() -> list[dict[str, str]]:
        return [labels for labels, _value in metrics(platform)["rayonnage_champion_info"]]

    assert eventually(lambda: all([one["version"] for one in shown()] == [version] for _ in range(5)))
    time.sleep(1)  # the other one too
    before = total(platform, "rayonnage_predictions_total")
    assert set(predict_all_at_once(platform)) == {200}
    counted = metrics(platform)["rayonnage_predictions_total"]
    by_version = {
        name: sum(value for labels, value in counted if labels["model_version"] == name) for name in (champion, version)
    }
    assert by_version == {champion: before, version: REQUESTS}


def test_a_stop_answers_what_is_under_way_and_leaves_nobody(platform: Platform, admin: httpx2.Client) -> None:
    assert predict(admin) == 200
    before = workers(platform)
    started = time.monotonic()
    platform.stop("predict")
    assert time.monotonic() - started < 10
    assert host.wait_until_gone(before, 1)
    assert not workers_folder("rayonnage_predict", int(platform.values["PREDICT_PORT"])).exists()
    assert predict(admin) == 503
    with httpx2.Client() as direct, pytest.raises(httpx2.ConnectError):
        direct.get(f"{platform.url('predict')}/health/live")
    platform.start("predict")
    platform.wait_until_ready()
    assert predict(admin) == 200


def test_workers_that_cannot_start_end_the_service(platform: Platform) -> None:
    """Stands last: predict does not come back."""
    platform.stop("predict")
    with (platform.home / ".env").open("a", encoding="utf-8") as settings:
        settings.write(f"CATEGORIES_PATH={platform.home}/nowhere.json\n")  # which only a worker reads
    platform.start("predict")
    assert eventually(lambda: platform.pid("predict"), within_s=60)
    first = platform.pid("predict")
    assert eventually(lambda: platform.pid("predict") != first, within_s=120), "the parent stays without any worker"
    assert "worker.ended" in platform.log_tail("predict")
