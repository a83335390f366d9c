"""Jobs for tests, and a clock for their leases."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from sqlmodel import Session

from rayonnage_shared.jobs.leases import JobLeases
from rayonnage_shared.jobs.queue import JobQueue
from rayonnage_shared.jobs.rows import HeldJob
from rayonnage_shared.jobs.schemas import Job

LEASE_S = 8.0


class Clock:
    """A clock that only moves when told to."""

    def __init__(self) -> None:
        self.moment = datetime(2026, 11, 21, 8, 15, tzinfo=UTC)

    def __call__(self, _session: Session) -> datetime:
        self.moment += timedelta(milliseconds=1)
        return self.moment

    def advance(self, seconds: float) -> None:
        self.moment += timedelta(seconds=seconds)


def submit(queue: JobQueue, concurrency_group: str = "models", **request: object) -> Job:
    return queue.submit("train", dict(request), by="claire", concurrency_group=concurrency_group)


def claim(leases: JobLeases) -> HeldJob:
    held = leases.claim(["train"], LEASE_S)
    assert held is not None
    return held
