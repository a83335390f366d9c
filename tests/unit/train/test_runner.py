"""A job's process: it ends when its lease is lost, and says why a job failed."""

from __future__ import annotations

import os
import threading
from typing import cast

import pytest
from sqlalchemy import Engine
from structlog.testing import capture_logs

from rayonnage_shared.jobs.leases import JobLeases, LeaseLost
from rayonnage_shared.jobs.queue import JobQueue
from rayonnage_shared.jobs.rows import HeldJob
from rayonnage_shared.pipelines.run_context import RunContext
from rayonnage_train import runner
from rayonnage_train.job_reporter import JobReporter
from rayonnage_train.job_types import DRIFT
from rayonnage_train.runner import EXIT_LEASE_LOST, run_job, watch_lease
from rayonnage_train.settings import TrainSettings
from tests.waiting import PATIENCE_S

HELD = HeldJob(job_id="job-1", kind="train", lease_token="token", request={}, submitted_by="jane", attempts=1)


class FailingLeases:
    """Leases that fail in unexpected ways before they say that the lease is lost."""

    def __init__(self) -> None:
        self.failures: list[Exception] = [LeaseLost("another worker has it"), MemoryError(), RuntimeError("driver")]

    def held(self, job_id: str, token: str) -> None:
        raise self.failures.pop()


def test_the_lease_is_watched_after_every_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    ended = threading.Event()
    statuses = []

    def end(status: int) -> None:
        statuses.append(status)
        ended.set()
        threading.Event().wait()  # the daemon thread goes no further, as if the process had ended

    monkeypatch.setattr(os, "_exit", end)
    monkeypatch.setattr(runner, "WATCH_EVERY_S", 0.0)
    with capture_logs() as logs:
        watch_lease(cast(JobLeases, FailingLeases()), HELD)
        assert ended.wait(PATIENCE_S)

    assert statuses == [EXIT_LEASE_LOST]
    assert [entry["event"] for entry in logs] == ["job.lease_check_failed"] * 2


def test_a_request_that_another_version_queued_fails_in_words(engine: Engine) -> None:
    queue, leases = JobQueue(engine), JobLeases(engine)
    job = queue.submit("drift", {"hour": 3}, by="claire", concurrency_group="drift")
    held = leases.claim(["drift"], 60)
    assert held is not None
    run_job(DRIFT, held, leases, JobReporter(held, leases), cast(RunContext[TrainSettings], None))
    ended = queue.get(job.job_id)
    assert (ended.status, ended.error) == (
        "failed",
        "The request is not valid: Unknown field `hour`; did you mean `hours`? Submit the job again.",
    )
