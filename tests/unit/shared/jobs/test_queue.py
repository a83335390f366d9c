"""What services ask of the queue."""

from __future__ import annotations

from concurrent.futures import ProcessPoolExecutor
from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import Engine

from rayonnage_shared.database.engine import open_database
from rayonnage_shared.jobs.leases import JobLeases
from rayonnage_shared.jobs.queue import JobCounts, JobFinished, JobNotFound, JobQueue, QueueFull
from rayonnage_shared.jobs.schemas import Job
from tests.unit.shared.jobs.jobs import LEASE_S, Clock, claim, submit


def test_a_submitted_job_is_queued_with_who_asked_and_what_for(queue: JobQueue, leases: JobLeases) -> None:
    job = submit(queue, text="tfidf-svm")
    assert (job.status, job.attempts, job.submitted_by, job.progress) == ("queued", 0, "claire", 0.0)
    assert queue.get(job.job_id) == job
    assert claim(leases).request == {"text": "tfidf-svm"}


def test_an_unknown_job_is_not_found(queue: JobQueue) -> None:
    with pytest.raises(JobNotFound):
        queue.get("01HZZZZZZZZZZZZZZZZZZZZZZZ")


def test_a_full_queue_refuses_and_says_when_to_come_back(queue: JobQueue, leases: JobLeases) -> None:
    for _ in range(2):
        queue.submit("train", {}, by="claire", concurrency_group="models", max_queued=2)
    with pytest.raises(QueueFull) as caught:
        queue.submit("train", {}, by="claire", concurrency_group="models", max_queued=2)
    assert caught.value.headers == {"Retry-After": "60"}
    claim(leases)
    queue.submit("train", {}, by="claire", concurrency_group="models", max_queued=2)


def test_a_queued_job_is_cancelled_at_once(queue: JobQueue, leases: JobLeases) -> None:
    job = queue.request_cancel(submit(queue).job_id)
    assert (job.status, job.attempts) == ("cancelled", 0)
    assert job.finished_at is not None
    assert leases.claim(["train"], LEASE_S) is None


def test_a_running_job_without_a_living_holder_is_cancelled_at_once(
    queue: JobQueue, leases: JobLeases, clock: Clock
) -> None:
    job = submit(queue)
    claim(leases)
    clock.advance(LEASE_S + 1)
    assert queue.request_cancel(job.job_id).status == "cancelled"


def test_a_job_that_has_ended_cannot_be_cancelled(queue: JobQueue) -> None:
    job = submit(queue)
    queue.request_cancel(job.job_id)
    with pytest.raises(JobFinished) as caught:
        queue.request_cancel(job.job_id)
    assert caught.value.detail == f"Job {job.job_id} had already been cancelled."


def test_a_job_that_has_succeeded_cannot_be_cancelled(queue: JobQueue, leases: JobLeases) -> None:
    job = submit(queue)
    leases.succeed(claim(leases), {})
    with pytest.raises(JobFinished, match=r"has already ended \(succeeded\), so it cannot be cancelled"):
        queue.request_cancel(job.job_id)


def test_a_second_cancellation_of_a_running_job_says_that_there_was_one(queue: JobQueue, leases: JobLeases) -> None:
    job = submit(queue)
    claim(leases)
    assert queue.request_cancel(job.job_id).message == "cancelling"
    assert queue.request_cancel(job.job_id).message == "the cancellation was already requested"


def test_jobs_are_listed_newest_first_and_by_status_and_kind(queue: JobQueue) -> None:
    jobs = [submit(queue) for _ in range(3)]
    queue.request_cancel(jobs[1].job_id)
    queue.submit("drift", {}, by="claire", concurrency_group="drift")
    listed = queue.list(kinds=["train"])
    assert [job.job_id for job in listed] == [job.job_id for job in reversed(jobs)]
    assert [job.job_id for job in queue.list(status="cancelled")] == [jobs[1].job_id]
    assert len(queue.list(limit=2)) == 2


def test_counts_are_by_kind_and_status_and_tell_how_long_the_oldest_waits(queue: JobQueue, clock: Clock) -> None:
    assert queue.counts() == JobCounts({}, 0.0)
    submit(queue)
    clock.advance(60)
    queue.submit("drift", {}, by="claire", concurrency_group="drift")
    queue.request_cancel(submit(queue).job_id)
    found = queue.counts()
    assert found.by_kind_and_status == {("train", "queued"): 1, ("train", "cancelled"): 1, ("drift", "queued"): 1}
    assert found.oldest_waiting_s == pytest.approx(60, abs=0.1)


def test_a_job_that_brings_its_id_is_submitted_once_whatever_has_become_of_it(queue: JobQueue) -> None:
    def again() -> Job:
        return queue.submit(
            "train", {}, by="drift x", concurrency_group="models", job_id="01HZZZ", lines=["Drift: language"]
        )

    first = again()
    assert (first.job_id, first.log_tail) == ("01HZZZ", ["Drift: language"])
    assert again() == first
    queue.request_cancel("01HZZZ")
    assert again().status == "cancelled"
    assert len(queue.list()) == 1


DAY, HOUR = timedelta(days=1), timedelta(hours=1)


def test_a_job_is_due_when_the_newest_of_its_kind_was_submitted_long_enough_ago(
    queue: JobQueue, leases: JobLeases, clock: Clock
) -> None:
    def due(first_from: datetime = clock.moment) -> Job | None:
        return queue.submit_if_due(
            "drift",
            {"hours": 24},
            by="schedule",
            concurrency_group="drift",
            every=DAY,
            retry_after=HOUR,
            first_from=first_from,
        )

    submit(queue)  # of another kind
    assert due() is None
    clock.advance(DAY.total_seconds())
    first = due()
    assert first is not None
    assert (first.kind, first.submitted_by, first.status) == ("drift", "schedule", "queued")
    clock.advance(2 * DAY.total_seconds())
    assert due() is None, "one waits"
    held = leases.claim(["drift"], LEASE_S)
    assert held is not None
    assert due() is None, "one runs"
    leases.fail(held, "It broke.")
    second = due()
    assert second is not None
    queue.request_cancel(second.job_id)
    assert due() is None, "one was submitted just now, whoever cancelled it"


@pytest.mark.parametrize(("every", "due_after"), [(DAY, HOUR), (HOUR / 2, HOUR / 2)])
def test_after_a_failed_job_the_next_is_due_sooner(
    queue: JobQueue, leases: JobLeases, clock: Clock, every: timedelta, due_after: timedelta
) -> None:
    def due() -> Job | None:
        return queue.submit_if_due(
            "drift",
            {},
            by="",
            concurrency_group="drift",
            every=every,
            retry_after=HOUR,
            first_from=clock.moment - every,
        )

    assert due() is not None
    held = leases.claim(["drift"], LEASE_S)
    assert held is not None
    leases.fail(held, "The database was away.")
    clock.advance(due_after.total_seconds() - 1)
    assert due() is None
    clock.advance(1)
    assert due() is not None


def _submit_if_due(database_url: str) -> list[str]:
    """Look at the schedule as a worker does, again and again; return what this process queued."""
    engine = open_database(database_url)
    queue, long_ago = JobQueue(engine), datetime(2026, 1, 1, tzinfo=UTC)
    found = [
        queue.submit_if_due(
            "drift", {}, by="schedule", concurrency_group="drift", every=DAY, retry_after=HOUR, first_from=long_ago
        )
        for _ in range(20)
    ]
    engine.dispose()
    return [job.job_id for job in found if job is not None]


def test_of_many_workers_that_look_at_the_schedule_one_queues_the_job(
    engine: Engine, database_url: str, pool: ProcessPoolExecutor
) -> None:
    found = [job_id for queued in pool.map(_submit_if_due, [database_url] * 4) for job_id in queued]
    assert len(found) == 1
    assert [job.job_id for job in JobQueue(engine).list()] == found
