"""When a worker queues a drift report by itself."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from sqlalchemy import Engine
from sqlmodel import select

from rayonnage_shared.database.engine import writing
from rayonnage_shared.database.tables import PromotionRow
from rayonnage_shared.jobs.leases import JobLeases
from rayonnage_shared.jobs.queue import JobQueue
from rayonnage_shared.jobs.schemas import Job
from rayonnage_shared.ml.bundles.champion import POINTER_NAME, Champion, write_champion
from rayonnage_train.schedule import LOOK_EVERY_S, DriftSchedule
from rayonnage_train.settings import TrainSettings

VERSION = "20261121T081500Z-3f2a"


@dataclass
class Platform:
    """A champion that was promoted a while ago, and the table of jobs."""

    models: Path
    engine: Engine
    now: float = field(default=0.0)

    def promoted(self, hours_ago: float) -> None:
        write_champion(self.models, Champion.promoted(VERSION, "claire", "first"))
        moved_at = datetime.now(UTC) - timedelta(hours=hours_ago)
        with writing(self.engine) as session:
            session.add(
                PromotionRow(move_id="1", version=VERSION, moved_by="claire", moved_at=moved_at, reason="first")
            )

    def worker(self, every_h: float = 24) -> DriftSchedule:
        settings = TrainSettings(_env_file=None, models_path=self.models, drift_every_h=every_h)
        return DriftSchedule(settings, self.engine, clock=lambda: self.now)

    def jobs(self) -> list[Job]:
        return JobQueue(self.engine).list()


@pytest.fixture
def platform(tmp_path: Path, engine: Engine) -> Platform:
    (tmp_path / "models").mkdir()
    return Platform(tmp_path / "models", engine)


def test_a_report_is_queued_a_day_after_the_first_promotion_and_by_one_of_two_workers(platform: Platform) -> None:
    platform.promoted(hours_ago=25)
    first, second = platform.worker(), platform.worker()
    for _ in range(3):
        first.tick()
        second.tick()
        platform.now += LOOK_EVERY_S
    (job,) = platform.jobs()
    assert (job.kind, job.submitted_by, job.status) == ("drift", "schedule", "queued")


def test_a_worker_that_starts_anew_queues_no_second_report(platform: Platform) -> None:
    platform.promoted(hours_ago=25)
    queue = JobQueue(platform.engine)
    platform.worker().tick()
    queue.request_cancel(platform.jobs()[0].job_id)
    platform.worker().tick()
    assert len(platform.jobs()) == 1


@pytest.mark.parametrize("every_h", [0, 26])
def test_nothing_is_queued_before_its_time_or_when_the_schedule_is_off(platform: Platform, every_h: float) -> None:
    platform.promoted(hours_ago=25)
    platform.worker(every_h).tick()
    assert platform.jobs() == []


def test_without_a_champion_nothing_is_queued(platform: Platform) -> None:
    worker = platform.worker()
    worker.tick()
    platform.promoted(hours_ago=25)
    (platform.models / POINTER_NAME).rename(platform.models / "elsewhere")
    worker.tick()
    assert platform.jobs() == []
    (platform.models / "elsewhere").rename(platform.models / POINTER_NAME)
    worker.tick()
    assert len(platform.jobs()) == 1


@pytest.mark.parametrize(("every_h", "hours"), [(1, 24), (72, 72)])
def test_a_report_looks_back_a_day_or_to_the_one_before_it(platform: Platform, every_h: float, hours: float) -> None:
    platform.promoted(hours_ago=100)
    platform.worker(every_h).tick()
    held = JobLeases(platform.engine).claim(["drift"], 60)
    assert held is not None
    assert held.request == {"hours": hours}


def test_the_table_is_looked_at_now_and_then_only(platform: Platform) -> None:
    platform.promoted(hours_ago=1)
    worker = platform.worker()
    worker.tick()
    with writing(platform.engine) as session:
        row = session.exec(select(PromotionRow)).one()
        row.moved_at -= timedelta(hours=24)
        session.add(row)
    worker.tick()
    assert platform.jobs() == []
    platform.now += LOOK_EVERY_S
    worker.tick()
    assert len(platform.jobs()) == 1
