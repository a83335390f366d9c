"""How a running job's stage and progress come to its row."""

from __future__ import annotations

import pytest
from sqlalchemy.exc import OperationalError

from rayonnage_shared.jobs.leases import JobLeases, LeaseLost
from rayonnage_shared.jobs.queue import JobQueue
from rayonnage_shared.jobs.rows import HeldJob
from rayonnage_train import job_reporter
from rayonnage_train.job_reporter import REPORT_EVERY_S, JobReporter
from tests.clock import Clock


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    made = Clock()
    monkeypatch.setattr(job_reporter, "time", made)
    return made


def test_a_stage_is_written_at_once_and_progress_twice_a_second(
    clock: Clock, queue: JobQueue, leases: JobLeases, held: HeldJob
) -> None:
    reporter = JobReporter(held, leases)
    reporter.stage("text")
    reporter.progress(0.25, "fold 1 of 4")
    job = queue.get(held.job_id)
    assert (job.stage, job.progress, job.message) == ("text", 0.0, "text")
    assert [line.split()[1] for line in job.log_tail] == ["text"]
    clock.now += REPORT_EVERY_S
    reporter.progress(0.5, "fold 2 of 4")
    job = queue.get(held.job_id)
    assert (job.progress, job.message) == (0.5, "fold 2 of 4")
    reporter.progress(0.75, "fold 3 of 4")
    reporter.flush()
    assert queue.get(held.job_id).progress == 0.75
    reporter.stage("image")
    job = queue.get(held.job_id)
    assert (job.stage, job.progress) == ("image", 0.75), "a stage that begins sets nothing back"


def test_what_an_unreachable_database_has_missed_is_written_later(
    clock: Clock, queue: JobQueue, leases: JobLeases, held: HeldJob, monkeypatch: pytest.MonkeyPatch
) -> None:
    reporter = JobReporter(held, leases)

    def unreachable(*_: object, **__: object) -> None:
        raise OperationalError("UPDATE", {}, OSError("gone"))

    with monkeypatch.context() as patched:
        patched.setattr(JobLeases, "report", unreachable)
        reporter.stage("text")
    assert queue.get(held.job_id).stage is None
    clock.now += REPORT_EVERY_S
    reporter.progress(0.5, "fold 2 of 4")
    job = queue.get(held.job_id)
    assert (job.stage, job.progress) == ("text", 0.5)
    assert [line.split()[1] for line in job.log_tail] == ["text"]


def test_a_job_that_was_lost_stops_at_its_next_report(leases: JobLeases, held: HeldJob) -> None:
    reporter = JobReporter(held, leases)
    leases.release(held, reason="the worker was stopped", counts_as_attempt=False)
    with pytest.raises(LeaseLost):
        reporter.stage("text")
