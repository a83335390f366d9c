"""The queue: who may hold a job, and who may write to it."""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from datetime import UTC, datetime, timedelta
from itertools import pairwise

import pytest
from sqlalchemy import Engine
from sqlmodel import Session

from rayonnage_shared.database.engine import open_database
from rayonnage_shared.jobs.queue import (
    JobCounts,
    JobFinished,
    JobNotFound,
    JobQueue,
    LeaseLost,
    QueueFull,
    database_time,
)
from rayonnage_shared.jobs.rows import LOG_TAIL_LINES, MAX_ATTEMPTS, HeldJob
from rayonnage_shared.jobs.schemas import Job

LEASE_S = 8.0
LONG_LEASE_S = 600.0
"""Where the time is real."""


class Clock:
    """A clock that only moves when told to."""

    def __init__(self) -> None:
        self.moment = datetime(2026, 11, 21, 8, 15, tzinfo=UTC)

    def __call__(self, _session: Session) -> datetime:
        self.moment += timedelta(milliseconds=1)
        return self.moment

    def advance(self, seconds: float) -> None:
        self.moment += timedelta(seconds=seconds)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def queue(engine: Engine, clock: Clock) -> JobQueue:
    return JobQueue(engine, clock)


@pytest.fixture(scope="module")
def pool() -> Iterator[ProcessPoolExecutor]:
    """Four processes."""
    with ProcessPoolExecutor(4, mp_context=multiprocessing.get_context("spawn")) as started:
        yield started


def submit(queue: JobQueue, concurrency_group: str = "models", **request: object) -> Job:
    return queue.submit("train", dict(request), by="claire", concurrency_group=concurrency_group)


def claim(queue: JobQueue) -> HeldJob:
    held = queue.claim(["train"], LEASE_S)
    assert held is not None
    return held


def test_a_submitted_job_is_queued_with_who_asked_and_what_for(queue: JobQueue) -> None:
    job = submit(queue, text="tfidf-svm")
    assert (job.status, job.attempts, job.submitted_by, job.progress) == ("queued", 0, "claire", 0.0)
    assert queue.get(job.job_id) == job
    assert claim(queue).request == {"text": "tfidf-svm"}


def test_an_unknown_job_is_not_found(queue: JobQueue) -> None:
    with pytest.raises(JobNotFound):
        queue.get("01HZZZZZZZZZZZZZZZZZZZZZZZ")


def test_the_oldest_job_is_claimed_first_and_by_one_worker_alone(queue: JobQueue) -> None:
    first, second = submit(queue, concurrency_group="a"), submit(queue, concurrency_group="b")
    assert [claim(queue).job_id, claim(queue).job_id] == [first.job_id, second.job_id]
    assert queue.claim(["train"], LEASE_S) is None


def test_a_worker_claims_only_kinds_that_it_knows(queue: JobQueue) -> None:
    submit(queue)
    assert queue.claim(["drift"], LEASE_S) is None


def test_jobs_of_one_lane_wait_for_each_other_and_other_lanes_pass_them(queue: JobQueue) -> None:
    for concurrency_group in ("models", "models", "scoring"):
        submit(queue, concurrency_group=concurrency_group)
    held, other = claim(queue), claim(queue)
    assert queue.claim(["train"], LEASE_S) is None
    queue.succeed(held.job_id, held.lease_token, {})
    assert claim(queue).job_id not in {held.job_id, other.job_id}


def test_a_full_queue_refuses_and_says_when_to_come_back(queue: JobQueue) -> None:
    for _ in range(2):
        queue.submit("train", {}, by="claire", concurrency_group="models", max_queued=2)
    with pytest.raises(QueueFull) as caught:
        queue.submit("train", {}, by="claire", concurrency_group="models", max_queued=2)
    assert caught.value.headers == {"Retry-After": "60"}
    claim(queue)
    queue.submit("train", {}, by="claire", concurrency_group="models", max_queued=2)


def test_a_job_whose_lease_ran_out_goes_to_the_next_worker(queue: JobQueue, clock: Clock) -> None:
    job = submit(queue)
    first = claim(queue)
    clock.advance(LEASE_S - 1)
    assert queue.claim(["train"], LEASE_S) is None
    clock.advance(2)
    second = claim(queue)
    assert (second.job_id, second.attempts) == (job.job_id, 2)
    assert second.lease_token != first.lease_token


def test_a_heartbeat_keeps_the_job(queue: JobQueue, clock: Clock) -> None:
    submit(queue)
    held = claim(queue)
    for _ in range(5):
        clock.advance(LEASE_S - 1)
        assert queue.heartbeat(held, LEASE_S) is False
    assert queue.claim(["train"], LEASE_S) is None


def test_a_late_heartbeat_takes_the_lease_up_again_if_nobody_else_runs(queue: JobQueue, clock: Clock) -> None:
    submit(queue)
    held = claim(queue)
    clock.advance(LEASE_S + 1)
    assert queue.heartbeat(held, LEASE_S) is False
    assert queue.claim(["train"], LEASE_S) is None


def test_a_late_heartbeat_is_refused_once_another_job_has_the_lane(queue: JobQueue, clock: Clock) -> None:
    first = submit(queue)
    submit(queue)
    held = claim(queue)
    queue.request_cancel(first.job_id)
    clock.advance(LEASE_S + 1)
    assert claim(queue).job_id != first.job_id
    with pytest.raises(LeaseLost):
        queue.heartbeat(held, LEASE_S)


WRITES: dict[str, Callable[[JobQueue, HeldJob], object]] = {
    "heartbeat": lambda queue, held: queue.heartbeat(held, LEASE_S),
    "report": lambda queue, held: queue.report(held.job_id, held.lease_token, message="late"),
    "succeed": lambda queue, held: queue.succeed(held.job_id, held.lease_token, {"late": True}),
    "fail": lambda queue, held: queue.fail(held.job_id, held.lease_token, "late"),
    "cancelled": lambda queue, held: queue.cancelled(held.job_id, held.lease_token),
    "release": lambda queue, held: queue.release(held, reason="late", counts_as_attempt=False),
    "held": lambda queue, held: queue.held(held.job_id, held.lease_token),
}


@pytest.mark.parametrize("write", WRITES)
def test_a_holder_that_lost_its_lease_writes_nothing(queue: JobQueue, clock: Clock, write: str) -> None:
    job = submit(queue)
    late = claim(queue)
    clock.advance(LEASE_S + 1)
    claim(queue)
    before = queue.get(job.job_id)
    with pytest.raises(LeaseLost):
        WRITES[write](queue, late)
    assert queue.get(job.job_id) == before


@pytest.mark.parametrize("write", WRITES)
def test_nothing_is_written_to_a_job_that_has_ended(queue: JobQueue, write: str) -> None:
    job = submit(queue)
    held = claim(queue)
    queue.succeed(held.job_id, held.lease_token, {"version": "v1"})
    before = queue.get(job.job_id)
    with pytest.raises(LeaseLost):
        WRITES[write](queue, held)
    assert queue.get(job.job_id) == before


def test_reports_show_on_the_job_and_leave_what_they_do_not_name(queue: JobQueue) -> None:
    job = submit(queue)
    held = claim(queue)
    queue.report(held.job_id, held.lease_token, stage="text", progress=0.25, message="fold 1 of 5")
    queue.report(held.job_id, held.lease_token, progress=1.7)
    queue.report(held.job_id, held.lease_token, progress=float("nan"), message="m" * 5000 + "\x00")
    shown = queue.get(job.job_id)
    assert (shown.stage, shown.progress) == ("text", 1.0)
    assert shown.message == "m" * 1000


def test_the_log_tail_keeps_the_last_lines(queue: JobQueue) -> None:
    job = submit(queue)
    held = claim(queue)
    for start in range(0, LOG_TAIL_LINES + 20, 10):
        queue.report(held.job_id, held.lease_token, lines=[f"line {start + one}" for one in range(10)])
    tail = queue.get(job.job_id).log_tail
    assert len(tail) == LOG_TAIL_LINES
    assert tail[-1] == f"line {LOG_TAIL_LINES + 19}"


def test_a_result_may_hold_numbers_that_json_has_no_word_for(queue: JobQueue) -> None:
    job = submit(queue)
    held = claim(queue)
    queue.succeed(held.job_id, held.lease_token, {"metrics": {"f1": float("nan")}, "curve": [0.5, float("inf")]})
    done = queue.get(job.job_id)
    assert (done.status, done.progress) == ("succeeded", 1.0)
    assert done.result == {"metrics": {"f1": None}, "curve": [0.5, None]}
    assert done.started_at and done.finished_at and done.started_at < done.finished_at


def test_a_queued_job_is_cancelled_at_once(queue: JobQueue) -> None:
    job = queue.request_cancel(submit(queue).job_id)
    assert (job.status, job.attempts) == ("cancelled", 0)
    assert job.finished_at is not None
    assert queue.claim(["train"], LEASE_S) is None


def test_the_holder_of_a_running_job_hears_of_the_cancel_with_its_next_heartbeat(queue: JobQueue) -> None:
    job = submit(queue)
    held = claim(queue)
    assert queue.request_cancel(job.job_id).status == "running"
    assert queue.heartbeat(held, LEASE_S) is True
    queue.cancelled(held.job_id, held.lease_token)
    assert queue.get(job.job_id).status == "cancelled"


def test_a_running_job_without_a_living_holder_is_cancelled_at_once(queue: JobQueue, clock: Clock) -> None:
    job = submit(queue)
    claim(queue)
    clock.advance(LEASE_S + 1)
    assert queue.request_cancel(job.job_id).status == "cancelled"


def test_a_job_that_was_to_be_cancelled_when_its_worker_died_is_not_run_again(queue: JobQueue, clock: Clock) -> None:
    job = submit(queue)
    claim(queue)
    queue.request_cancel(job.job_id)
    clock.advance(LEASE_S + 1)
    assert queue.claim(["train"], LEASE_S) is None
    assert queue.get(job.job_id).status == "cancelled"


def test_a_job_that_has_ended_cannot_be_cancelled(queue: JobQueue) -> None:
    job = submit(queue)
    queue.request_cancel(job.job_id)
    with pytest.raises(JobFinished):
        queue.request_cancel(job.job_id)


def test_a_job_that_loses_every_worker_fails_after_the_last_attempt(queue: JobQueue, clock: Clock) -> None:
    job, following = submit(queue), submit(queue)
    for _ in range(MAX_ATTEMPTS):
        assert claim(queue).job_id == job.job_id
        clock.advance(LEASE_S + 1)
    assert claim(queue).job_id == following.job_id
    failed = queue.get(job.job_id)
    assert (failed.status, failed.attempts) == ("failed", MAX_ATTEMPTS)
    assert failed.error and "3 times" in failed.error


def test_a_released_job_runs_again_and_may_leave_its_attempts_as_they_were(queue: JobQueue) -> None:
    job = submit(queue)
    queue.release(claim(queue), reason="the worker was stopped", counts_as_attempt=False)
    assert (queue.get(job.job_id).status, queue.get(job.job_id).attempts) == ("queued", 0)
    queue.release(claim(queue), reason="its process was killed", counts_as_attempt=True)
    assert queue.get(job.job_id).attempts == 1
    assert claim(queue).attempts == 2


def test_a_job_released_after_its_last_attempt_fails_with_the_reason(queue: JobQueue) -> None:
    job = submit(queue)
    for _ in range(MAX_ATTEMPTS):
        queue.release(claim(queue), reason="killed by SIGKILL", counts_as_attempt=True)
    failed = queue.get(job.job_id)
    assert failed.status == "failed"
    assert failed.error and "killed by SIGKILL" in failed.error


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


DAY = timedelta(days=1)


def test_a_job_is_due_when_the_newest_of_its_kind_was_submitted_long_enough_ago(queue: JobQueue, clock: Clock) -> None:
    def due(first_from: datetime = clock.moment) -> Job | None:
        return queue.submit_if_due(
            "drift", {"hours": 24}, by="schedule", concurrency_group="drift", every=DAY, first_from=first_from
        )

    submit(queue)  # of another kind
    assert due() is None
    clock.advance(DAY.total_seconds())
    first = due()
    assert first is not None
    assert (first.kind, first.submitted_by, first.status) == ("drift", "schedule", "queued")
    clock.advance(2 * DAY.total_seconds())
    assert due() is None, "one waits"
    held = queue.claim(["drift"], LEASE_S)
    assert held is not None
    assert due() is None, "one runs"
    queue.fail(held.job_id, held.lease_token, "It broke.")
    second = due()
    assert second is not None
    queue.request_cancel(second.job_id)
    assert due() is None, "one was submitted just now, whoever cancelled it"


def _submit_if_due(database_url: str) -> list[str]:
    """Look at the schedule as a worker does, again and again; return what this process queued."""
    engine = open_database(database_url)
    queue, long_ago = JobQueue(engine), datetime(2026, 1, 1, tzinfo=UTC)
    found = [
        queue.submit_if_due("drift", {}, by="schedule", concurrency_group="drift", every=DAY, first_from=long_ago)
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


def test_leases_are_measured_by_a_clock_in_utc(engine: Engine) -> None:
    with Session(engine) as session:
        assert abs(database_time(session) - datetime.now(UTC)) < timedelta(seconds=60)


def _work_off(database_url: str) -> list[tuple[str, str, datetime, datetime]]:
    """Claim and finish jobs until none is left; return each with its group, start and end."""
    engine = open_database(database_url)
    queue = JobQueue(engine)
    done = []
    idle = 0
    while idle < 20:
        held = queue.claim(["train"], LONG_LEASE_S)
        if held is None:
            idle += 1
            continue
        idle = 0
        begun = datetime.now(UTC)
        queue.report(held.job_id, held.lease_token, stage="one", progress=0.5)
        queue.heartbeat(held, LONG_LEASE_S)
        ended = datetime.now(UTC)
        queue.succeed(held.job_id, held.lease_token, {})
        done.append((held.job_id, held.request["lane"], begun, ended))
    engine.dispose()
    return done


def test_many_processes_racing_run_every_job_once_and_no_lane_twice_at_a_time(
    engine: Engine, database_url: str, pool: ProcessPoolExecutor
) -> None:
    queue = JobQueue(engine)
    lanes = ("a", "b", "c")
    jobs = [
        queue.submit("train", {"lane": lanes[number % 3]}, by="claire", concurrency_group=lanes[number % 3])
        for number in range(45)
    ]
    found = [one for done in pool.map(_work_off, [database_url] * 4) for one in done]
    assert sorted(job_id for job_id, *_ in found) == sorted(job.job_id for job in jobs)
    assert all(queue.get(job.job_id).attempts == 1 for job in jobs)
    for concurrency_group in lanes:
        spans = sorted((begun, ended) for _, its_lane, begun, ended in found if its_lane == concurrency_group)
        assert all(ended <= begun for (_, ended), (begun, _) in pairwise(spans))
