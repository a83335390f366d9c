"""Two replicas of predict: one service to callers, and each a process of its own to whoever runs them."""

from __future__ import annotations

import os
import signal
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import FIRST_COMPLETED, ThreadPoolExecutor, wait
from itertools import repeat
from pathlib import Path

import httpx2
import pytest

from rayonnage_shared.core import host
from rayonnage_shared.ops.prometheus_text import Readings
from tests.e2e.api import finished_job, start_training
from tests.e2e.command_line import rayonnage
from tests.e2e.platform import Platform, running_platform
from tests.ports import free_port
from tests.system.prometheus import prometheus, query
from tests.waiting import PATIENCE_S, eventually

REPLICAS = ("predict", "predict-2")
REQUESTS = 60
SETTINGS = {
    "PREDICT_REPLICAS": str(len(REPLICAS)),
    "PREDICT_WORKERS": "2",
}  # the latter is a setting of earlier versions


@pytest.fixture(scope="module")
def platform(trained_volume: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Platform]:
    """A platform with two replicas of predict; each test leaves them running."""
    with running_platform(tmp_path_factory.mktemp("replicas"), SETTINGS, volume=trained_volume) as running:
        yield running


@pytest.fixture
def admin(platform: Platform) -> Iterator[httpx2.Client]:
    with platform.client(platform.admin_token()) as client:
        yield client


def predict(client: httpx2.Client) -> int:
    return client.post("/predict", json={"designation": "piscine gonflable"}).status_code


def predict_all_at_once(platform: Platform) -> list[int]:
    """Ask the gateway from eight connections, and return the statuses."""
    with platform.client(platform.admin_token()) as client, ThreadPoolExecutor(8) as threads:
        return list(threads.map(predict, repeat(client, REQUESTS)))


def metrics(platform: Platform, name: str) -> Readings:
    return Readings.of(httpx2.get(platform.metrics_url(name), timeout=PATIENCE_S).text)


def total(platform: Platform, metric: str) -> float:
    """Return the sum of a metric over the replicas."""
    return sum(metrics(platform, name).total(metric) or 0.0 for name in REPLICAS)


def by_version(platform: Platform) -> Counter[str]:
    counts: Counter[str] = Counter()
    for name in REPLICAS:
        counts.update(metrics(platform, name).by("rayonnage_predictions_total", "model_version"))
    return counts


def signalled(platform: Platform, name: str, which: signal.Signals) -> None:
    pid = platform.pid(name)
    assert pid is not None
    os.kill(pid, which)


def test_the_metrics_of_the_replicas_add_up_to_what_was_asked(platform: Platform) -> None:
    assert predict_all_at_once(platform) == [200] * REQUESTS

    assert total(platform, "rayonnage_predictions_total") == REQUESTS
    assert total(platform, "rayonnage_prediction_confidence_count") == REQUESTS
    for name in REPLICAS:
        found = metrics(platform, name)
        (champion,) = found.labels("rayonnage_champion_info")
        assert found.total("rayonnage_champion_info", **champion) == 1
        assert 0 < time.time() - (found.total("rayonnage_champion_created_timestamp_seconds") or 0) < 3600
        assert found.total("rayonnage_predict_in_flight") == 0
        assert (found.total("process_resident_memory_bytes") or 0) > 100_000_000, "its own"
    assert eventually(lambda: total(platform, "rayonnage_prediction_log_written_total") == REQUESTS)
    logs = {name: platform.supervisor.logs / f"{name}.log" for name in REPLICAS}
    counted = {name: metrics(platform, name).total("rayonnage_predictions_total") or 0.0 for name in REPLICAS}
    # A line is written after its response has been sent.
    assert eventually(
        lambda: {name: log.read_text().count('"path":"/predict"') for name, log in logs.items()} == counted
    )
    assert all('"replica":2' in line for line in logs["predict-2"].read_text().splitlines())
    assert '"replica"' not in logs["predict"].read_text()


def test_the_gateway_asks_the_replica_with_the_least_to_do(platform: Platform, admin: httpx2.Client) -> None:
    first, second = (metrics(platform, name).total("rayonnage_predictions_total") or 0.0 for name in REPLICAS)
    signalled(platform, "predict", signal.SIGSTOP)
    try:
        with ThreadPoolExecutor(2) as threads:
            asked = [threads.submit(predict, admin) for _ in range(2)]
            done, waiting = wait(asked, PATIENCE_S, FIRST_COMPLETED)
            assert ([one.result() for one in done], len(waiting)) == ([200], 1)
            assert metrics(platform, "predict-2").total("rayonnage_predictions_total") == second + 1
            signalled(platform, "predict", signal.SIGCONT)
            assert [one.result(PATIENCE_S) for one in waiting] == [200]
    finally:
        signalled(platform, "predict", signal.SIGCONT)
    assert metrics(platform, "predict").total("rayonnage_predictions_total") == first + 1


def test_a_replica_that_is_killed_is_started_again_and_no_request_fails(
    platform: Platform, admin: httpx2.Client
) -> None:
    before = {name: platform.pid(name) for name in REPLICAS}
    counted = {name: metrics(platform, name).total("rayonnage_predictions_total") or 0.0 for name in REPLICAS}

    def serves_both() -> bool:
        return all(
            (metrics(platform, name).total("rayonnage_predictions_total") or 0) > counted[name] for name in REPLICAS
        )

    with platform.client(platform.admin_token()) as other, ThreadPoolExecutor(2) as threads:
        asked = [threads.submit(lambda client: list(map(predict, repeat(client, 150))), one) for one in (admin, other)]
        assert eventually(serves_both)
        platform.kill("predict")
        assert {status for one in asked for status in one.result()} == {200}
    assert (metrics(platform, "predict-2").total("rayonnage_predictions_total") or 0) > counted["predict-2"]
    platform.wait_until_ready()
    assert platform.pid("predict") not in {None, before["predict"]}
    assert platform.pid("predict-2") == before["predict-2"]
    assert predict(admin) == 200


def test_each_replica_is_ready_by_itself(platform: Platform, admin: httpx2.Client) -> None:
    signalled(platform, "predict-2", signal.SIGSTOP)
    try:
        assert platform.supervisor.unready().keys() == {"predict-2"}
        status = rayonnage(platform.home, "status")
        assert status.returncode == 1
        assert "no answer" in next(line for line in status.stdout.splitlines() if " predict-2 " in line)
        assert admin.get("/health/ready").status_code == 200
    finally:
        signalled(platform, "predict-2", signal.SIGCONT)
    platform.wait_until_ready()


def test_status_dashboard_and_logs_show_each_replica(platform: Platform) -> None:
    status = rayonnage(platform.home, "status")
    dashboard = rayonnage(platform.home, "dashboard", "--once")
    assert (status.returncode, dashboard.returncode) == (0, 0), status.stdout + dashboard.stdout + dashboard.stderr
    for name in REPLICAS:
        pid = str(platform.pid(name))
        in_status, in_dashboard = (
            next(line for line in done.stdout.splitlines() if f" {name} " in line) for done in (status, dashboard)
        )
        assert "running" in in_status and pid in in_status and " yes " in in_status
        assert " yes " in in_dashboard and pid in in_dashboard and " MB" in in_dashboard
    with platform.client(platform.admin_token()) as client:
        request = client.post("/predict", json={"designation": "piscine"}).headers["x-request-id"]
    assert eventually(lambda: " predict " in rayonnage(platform.home, "logs", "--request", request).stdout)


def test_a_new_champion_serves_in_each_and_is_the_only_one_shown(platform: Platform, admin: httpx2.Client) -> None:
    assert set(predict_all_at_once(platform)) == {200}
    champion = admin.get("/models").json()["champion"]
    job = finished_job(admin, start_training(admin, "/train/text", text="tfidf-svm", promote="always"))
    version = job["result"]["version"]

    def shown(name: str) -> list[str]:
        return [labels["version"] for labels in metrics(platform, name).labels("rayonnage_champion_info")]

    assert eventually(lambda: all(shown(name) == [version] for name in REPLICAS))
    before = by_version(platform)
    assert set(predict_all_at_once(platform)) == {200}
    assert by_version(platform) == before + Counter({version: REQUESTS})
    assert before.keys() == {champion}


@pytest.mark.system
def test_prometheus_sums_the_replicas(platform: Platform, tmp_path: Path) -> None:
    with prometheus(tmp_path, free_port(), {"predict": [platform.metrics_url(name) for name in REPLICAS]}) as client:

        def value(expression: str) -> float | None:
            found = query(client, expression)
            return float(found[0]["value"][1]) if len(found) == 1 else None

        assert eventually(lambda: value('count(up{job="predict"} == 1)') == len(REPLICAS))
        assert predict_all_at_once(platform) == [200] * REQUESTS
        counted = total(platform, "rayonnage_predictions_total")
        assert eventually(lambda: value("sum by (job) (rayonnage_predictions_total)") == counted)
        assert eventually(lambda: value("sum by (job) (rayonnage_prediction_confidence_count)") == counted)
        assert value("max by (version, family) (rayonnage_champion_info)") == 1
        assert value("count(count by (instance) (rayonnage_champion_info))") == len(REPLICAS)
        assert query(client, 'up{job="predict"} == 1 unless on (instance) rayonnage_champion_info') == []


def test_a_replica_that_is_stopped_ends_by_itself_and_the_other_serves(
    platform: Platform, admin: httpx2.Client
) -> None:
    assert predict(admin) == 200
    pids = [platform.pid(name) for name in REPLICAS]
    platform.stop("predict")
    assert predict(admin) == 200
    with httpx2.Client(timeout=PATIENCE_S) as direct, pytest.raises(httpx2.ConnectError):
        direct.get(f"{platform.url('predict')}/health/live")
    platform.stop("predict-2")
    assert predict(admin) == 503
    assert host.wait_until_gone([pid for pid in pids if pid is not None], PATIENCE_S)
    assert "with SIGKILL" not in (platform.supervisor.folder / "supervisord.log").read_text(encoding="utf-8")
    for name in REPLICAS:
        platform.start(name)
    platform.wait_until_ready()
    assert predict(admin) == 200


def test_a_replica_that_cannot_start_is_tried_again_while_the_other_serves(
    platform: Platform, admin: httpx2.Client
) -> None:
    """Run this last: the replica does not come back."""
    platform.stop("predict-2")
    with (platform.home / ".env").open("a", encoding="utf-8") as settings:
        settings.write(f"CATEGORIES_PATH={platform.home}/nowhere.json\n")
    platform.start("predict-2")
    assert eventually(lambda: platform.pid("predict-2"))
    first = platform.pid("predict-2")
    assert eventually(lambda: platform.pid("predict-2") not in {None, first})
    assert platform.supervisor.unready().keys() == {"predict-2"}
    assert "nowhere.json" in platform.log_tail("predict-2")
    assert predict(admin) == 200
