"""Every process is scraped by a real Prometheus, from the same list that starts it."""

from __future__ import annotations

from pathlib import Path

import pytest

from rayonnage_shared.core.processes import PROCESSES
from tests.e2e.platform import Platform
from tests.ports import free_ports
from tests.system.prometheus import prometheus, query
from tests.waiting import eventually

pytestmark = pytest.mark.system

SCRAPED_WITHIN_S = 20


def test_all_processes_are_scraped_and_a_prediction_is_counted(platform: Platform, tmp_path: Path) -> None:
    targets = {process.name: [platform.metrics_url(process.name)] for process in PROCESSES}
    with prometheus(tmp_path, free_ports(1)[0], targets) as client:

        def targets_up() -> set[str]:
            return {one["metric"]["job"] for one in query(client, "up == 1")}

        def down() -> dict[str, str]:
            active = client.get("/api/v1/targets").json()["data"]["activeTargets"]
            return {one["labels"]["job"]: one["lastError"] for one in active if one["health"] != "up"}

        def predictions() -> float:
            found = query(client, "sum(rayonnage_predictions_total)")
            return float(found[0]["value"][1]) if found else 0.0

        assert eventually(lambda: targets_up() == set(targets), SCRAPED_WITHIN_S), down()
        assert down() == {}

        before = predictions()
        with platform.client(platform.admin_token()) as caller:
            assert caller.post("/predict", json={"designation": "Pompe de piscine"}).status_code == 200
        assert eventually(lambda: predictions() == before + 1, SCRAPED_WITHIN_S)

        metrics = {
            "rayonnage_champion_info": "predict",
            "rayonnage_prediction_confidence_count": "predict",
            "rayonnage_jobs": "train",
            "rayonnage_dataset_rows": "ingest",
            "rayonnage_rate_limit_hits_total": "gateway",
        }
        shown = {metric: {one["metric"]["job"] for one in query(client, metric)} for metric in metrics}
        assert shown == {metric: {process} for metric, process in metrics.items()}
        handled = query(client, 'http_requests_total{job="gateway", handler="/predict", status="200"}')
        assert len(handled) == 1, query(client, "http_requests_total")
