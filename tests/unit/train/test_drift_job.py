"""What the drift job's decision counts as a training that happened."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine

from rayonnage_shared.drift.report import new_report_id
from rayonnage_shared.drift.schemas import DriftDecision, DriftReport
from rayonnage_shared.jobs.leases import JobLeases
from rayonnage_shared.jobs.queue import JobQueue
from rayonnage_shared.jobs.rows import HeldJob
from rayonnage_shared.ml.bundles.champion import Champion, write_champion
from rayonnage_shared.ml.catalogue.datasets import DatasetStore
from rayonnage_shared.ml.catalogue.ingestion.ingest import ingest
from rayonnage_train.drift_job import decide_on
from rayonnage_train.settings import TrainSettings
from tests.unit.shared.drift.reports import report
from tests.unit.shared.ml.bundles.manifests import VERSION, write_bundle
from tests.unit.shared.ml.catalogue.catalogues import many_rows, write_csv
from tests.unit.shared.ml.training.test_plan import CATEGORIES

LATER = "20261122T081500Z-0002"


class Shop:
    """A champion of an older dataset, a newer dataset, and a report with an alarm."""

    def __init__(self, folder: Path, engine: Engine) -> None:
        self.folder, self.engine = folder, engine
        self.queue, self.leases = JobQueue(engine), JobLeases(engine)
        ingest(
            DatasetStore(folder), write_csv(folder / "features.csv", many_rows(30)), None, None, categories=CATEGORIES
        )
        write_bundle(folder / "models")
        write_champion(folder / "models", Champion.promoted(VERSION, "jane", "first"))
        self.settings = TrainSettings(
            _env_file=None, models_path=folder / "models", data_path=folder, drift_min_rows=1, drift_cool_down_h=168
        )
        # The champion is older than the cool-down.
        self.bundle(VERSION, datetime.now(UTC) - timedelta(days=30))

    def bundle(self, version: str, created_at: datetime, **changes: Any) -> None:
        write_bundle(
            self.folder / "models", version, created_at=created_at.replace(microsecond=0).isoformat(), **changes
        )

    def run_training(self, end: Callable[[HeldJob], None], kind: str = "train") -> None:
        """Have a worker run a training that ends by `end`."""
        self.queue.submit(kind, {}, by="claire", concurrency_group="models")
        held = self.leases.claim([kind], 60)
        assert held is not None
        end(held)

    def decision(self) -> DriftDecision:
        alarm: DriftReport = report(new_report_id()).model_copy(
            update={"version": VERSION, "current_rows": 500, "drift": True}
        )
        assert alarm.alarms
        return decide_on(alarm, self.queue, self.settings)


@pytest.fixture
def shop(tmp_path: Path, engine: Engine) -> Shop:
    return Shop(tmp_path, engine)


def test_a_training_that_failed_or_was_cancelled_blocks_none(shop: Shop) -> None:
    shop.run_training(lambda held: shop.leases.fail(held, "There are 3 products."))
    shop.run_training(shop.leases.cancel)

    assert shop.decision().retrain


def test_a_bundle_of_a_job_that_failed_after_writing_it_blocks_none(shop: Shop) -> None:
    def fails_in_the_gate(held: HeldJob) -> None:
        newest = {"version": DatasetStore(shop.folder).current(), "sha256": "ab" * 32, "demo": False}
        shop.bundle(LATER, datetime.now(UTC), dataset=newest)
        shop.leases.fail(held, "The gate broke.")

    shop.run_training(fails_in_the_gate)

    assert shop.decision().retrain


def test_a_search_that_trained_nothing_blocks_none(shop: Shop) -> None:
    shop.run_training(lambda held: shop.leases.succeed(held, {"search": {}}), kind="search")

    assert shop.decision().retrain


def test_a_training_that_succeeded_blocks_others_until_the_cool_down_is_over(shop: Shop) -> None:
    shop.run_training(lambda held: shop.leases.succeed(held, {"version": LATER}))

    assert "the last successful training ended at" in shop.decision().reason


def test_a_bundle_of_the_command_line_blocks_others_too(shop: Shop) -> None:
    shop.run_training(lambda held: shop.leases.fail(held, "There are 3 products."))
    shop.bundle(LATER, datetime.now(UTC) - timedelta(hours=1))

    assert "the last successful training ended at" in shop.decision().reason
