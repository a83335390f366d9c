"""Queue a drift report every DRIFT_EVERY_H hours, however many workers there are."""

from __future__ import annotations

import time
from collections.abc import Callable
from datetime import timedelta

import structlog
from sqlalchemy import Engine, func
from sqlmodel import col, select

from rayonnage_shared.database.engine import reading
from rayonnage_shared.database.tables import PromotionRow
from rayonnage_shared.drift.schemas import DriftRequest
from rayonnage_shared.jobs.queue import JobQueue
from rayonnage_shared.ml.bundles.champion import POINTER_NAME
from rayonnage_train.job_types import DRIFT
from rayonnage_train.settings import TrainSettings

log = structlog.get_logger()

LOOK_EVERY_S = 15.0
RETRY_AFTER = timedelta(hours=1)
"""After a failed report; without it a short outage would cost a whole period."""
SCHEDULE = "schedule"
"""`submitted_by` of scheduled jobs."""


class DriftSchedule:
    """Checks periodically whether a drift report is due. Its only state is the table of jobs.

    Without a champion no report is queued; the first one is due one period after the first promotion.
    """

    def __init__(self, settings: TrainSettings, engine: Engine, clock: Callable[[], float] = time.monotonic) -> None:
        self._engine = engine
        self._queue = JobQueue(engine)
        self._pointer = settings.models_path / POINTER_NAME
        self._hours = settings.drift_every_h
        self._clock = clock
        self._next_look = float("-inf")

    def tick(self) -> None:
        """Queue a report if one is due. Raises DATABASE_AWAY errors."""
        now = self._clock()
        if not self._hours or now < self._next_look or not self._pointer.exists():
            return
        self._next_look = now + LOOK_EVERY_S
        with reading(self._engine) as session:
            first_promotion = session.exec(select(func.min(col(PromotionRow.moved_at)))).one()
        if first_promotion is None:
            return
        # At least a day, so that hourly reports have enough rows; longer periods are covered without a gap.
        request = DriftRequest(hours=max(DriftRequest().hours, self._hours))
        job = self._queue.submit_if_due(
            DRIFT.name,
            request.model_dump(mode="json"),
            by=SCHEDULE,
            concurrency_group=DRIFT.concurrency_group,
            every=timedelta(hours=self._hours),
            retry_after=RETRY_AFTER,
            first_from=first_promotion,
        )
        if job is not None:
            log.info("drift.scheduled", job_id=job.job_id, every_h=self._hours)
