"""Who may hold a job, and who may write to it."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from datetime import UTC, datetime
from itertools import pairwise

import pytest
from sqlalchemy import Engine

from rayonnage_shared.database.engine import open_database
from rayonnage_shared.jobs.leases import JobLeases, LeaseLost
from rayonnage_shared.jobs.queue import JobQueue
from rayonnage_shared.jobs.rows import LOG_TAIL_LINES, MAX_ATTEMPTS, HeldJob
from tests.unit.shared.jobs.jobs import LEASE_S, Clock, claim, submit

LONG_LEASE_S = 600.0
"""Where the time is real."""


def test_the_oldest_job_is_claimed_first_and_by_one_worker_alone(queue: JobQueue, leases: JobLeases) -> None:
    first, second = submit(queue, concurrency_group="a"), submit(queue, concurrency_group="b")
    assert [claim(leases).job_id, claim(leases).job_id] == [first.job_id, second.job_id]
    assert leases.claim(["train"], LEASE_S) is None


def test_a_worker_claims_only_kinds_that_it_knows(queue: JobQueue, leases: JobLeases) -> None:
    submit(queue)
    assert leases.claim(["drift"], LEASE_S) is None


def test_jobs_of_one_group_run_in_turn_and_do_not_block_other_groups(queue: JobQueue, leases: JobLeases) -> None:
    for concurrency_group in ("models", "models", "scoring"):
        submit(queue, concurrency_group=concurrency_group)
    held, other = claim(leases), claim(leases)
    assert leases.claim(["train"], LEASE_S) is None
    leases.succeed(held, {})
    assert claim(leases).job_id not in {held.job_id, other.job_id}


def test_a_job_whose_lease_ran_out_goes_to_the_next_worker(queue: JobQueue, leases: JobLeases, clock: Clock) -> None:
    job = submit(queue)
    first = claim(leases)
    clock.advance(LEASE_S - 1)
    assert leases.claim(["train"], LEASE_S) is None
    clock.advance(2)
    second = claim(leases)
    assert (second.job_id, second.attempts) == (job.job_id, 2)
    assert second.lease_token != first.lease_token


def test_a_heartbeat_keeps_the_job(queue: JobQueue, leases: JobLeases, clock: Clock) -> None:
    submit(queue)
    held = claim(leases)
    for _ in range(5):
        clock.advance(LEASE_S - 1)
        assert leases.heartbeat(held, LEASE_S) is False
    assert leases.claim(["train"], LEASE_S) is None


def test_a_late_heartbeat_takes_the_lease_up_again_if_nobody_else_runs(
    queue: JobQueue, leases: JobLeases, clock: Clock
) -> None:
    submit(queue)
    held = claim(leases)
    clock.advance(LEASE_S + 1)
    assert leases.heartbeat(held, LEASE_S) is False
    assert leases.claim(["train"], LEASE_S) is None


def test_a_late_heartbeat_is_refused_once_another_job_of_the_group_runs(
    queue: JobQueue, leases: JobLeases, clock: Clock
) -> None:
    first = submit(queue)
    submit(queue)
    held = claim(leases)
    queue.request_cancel(first.job_id)
    clock.advance(LEASE_S + 1)
    assert claim(leases).job_id != first.job_id
    with pytest.raises(LeaseLost):
        leases.heartbeat(held, LEASE_S)


WRITES: dict[str, Callable[[JobLeases, HeldJob], object]] = {
    "heartbeat": lambda leases, held: leases.heartbeat(held, LEASE_S),
    "report": lambda leases, held: leases.report(held, message="late"),
    "succeed": lambda leases, held: leases.succeed(held, {"late": True}),
    "fail": lambda leases, held: leases.fail(held, "late"),
    "cancel": lambda leases, held: leases.cancel(held),
    "release": lambda leases, held: leases.release(held, reason="late", counts_as_attempt=False),
    "held": lambda leases, held: leases.held(held.job_id, held.lease_token),
}


@pytest.mark.parametrize("write", WRITES)
def test_a_holder_that_lost_its_lease_writes_nothing(
    queue: JobQueue, leases: JobLeases, clock: Clock, write: str
) -> None:
    job = submit(queue)
    late = claim(leases)
    clock.advance(LEASE_S + 1)
    claim(leases)
    before = queue.get(job.job_id)
    with pytest.raises(LeaseLost):
        WRITES[write](leases, late)
    assert queue.get(job.job_id) == before


@pytest.mark.parametrize("write", WRITES)
def test_nothing_is_written_to_a_job_that_has_ended(queue: JobQueue, leases: JobLeases, write: str) -> None:
    job = submit(queue)
    held = claim(leases)
    leases.succeed(held, {"version": "v1"})
    before = queue.get(job.job_id)
    with pytest.raises(LeaseLost):
        WRITES[write](leases, held)
    assert queue.get(job.job_id) == before


def test_reports_show_on_the_job_and_leave_what_they_do_not_name(queue: JobQueue, leases: JobLeases) -> None:
    job = submit(queue)
    held = claim(leases)
    leases.report(held, stage="text", progress=0.25, message="fold 1 of 5")
    leases.report(held, progress=1.7)
    leases.report(held, progress=float("nan"), message="m" * 5000 + "\x00")
    shown = queue.get(job.job_id)
    assert (shown.stage, shown.progress) == ("text", 1.0)
    assert shown.message == "m" * 1000


def test_progress_never_decreases_not_even_when_the_job_is_run_again(queue: JobQueue, leases: JobLeases) -> None:
    job = submit(queue)
    held = claim(leases)
    leases.report(held, progress=0.6)
    leases.report(held, progress=0.2)
    leases.report(held, progress=-1.0)
    assert queue.get(job.job_id).progress == 0.6
    leases.release(held, reason="the worker was stopped", counts_as_attempt=False)
    again = claim(leases)
    leases.report(again, stage="text", progress=0.0)
    assert queue.get(job.job_id).progress == 0.6
    leases.report(again, progress=0.7)
    assert queue.get(job.job_id).progress == 0.7


def test_the_log_tail_keeps_the_last_lines(queue: JobQueue, leases: JobLeases) -> None:
    job = submit(queue)
    held = claim(leases)
    for start in range(0, LOG_TAIL_LINES + 20, 10):
        leases.report(held, lines=[f"line {start + one}" for one in range(10)])
    tail = queue.get(job.job_id).log_tail
    assert len(tail) == LOG_TAIL_LINES
    assert tail[-1] == f"line {LOG_TAIL_LINES + 19}"


def test_a_result_may_hold_numbers_that_json_has_no_word_for(queue: JobQueue, leases: JobLeases) -> None:
    job = submit(queue)
    held = claim(leases)
    leases.succeed(held, {"metrics": {"f1": float("nan")}, "curve": [0.5, float("inf")]})
    done = queue.get(job.job_id)
    assert (done.status, done.progress) == ("succeeded", 1.0)
    assert done.result == {"metrics": {"f1": None}, "curve": [0.5, None]}
    assert done.started_at and done.finished_at and done.started_at < done.finished_at


def test_the_holder_of_a_running_job_hears_of_the_cancel_with_its_next_heartbeat(
    queue: JobQueue, leases: JobLeases
) -> None:
    job = submit(queue)
    held = claim(leases)
    assert queue.request_cancel(job.job_id).status == "running"
    assert leases.heartbeat(held, LEASE_S) is True
    leases.cancel(held)
    assert queue.get(job.job_id).status == "cancelled"


def test_a_job_that_was_to_be_cancelled_when_its_worker_died_is_not_run_again(
    queue: JobQueue, leases: JobLeases, clock: Clock
) -> None:
    job = submit(queue)
    claim(leases)
    queue.request_cancel(job.job_id)
    clock.advance(LEASE_S + 1)
    assert leases.claim(["train"], LEASE_S) is None
    assert queue.get(job.job_id).status == "cancelled"


def test_a_job_that_loses_every_worker_fails_after_the_last_attempt(
    queue: JobQueue, leases: JobLeases, clock: Clock
) -> None:
    job, following = submit(queue), submit(queue)
    for _ in range(MAX_ATTEMPTS):
        assert claim(leases).job_id == job.job_id
        clock.advance(LEASE_S + 1)
    assert claim(leases).job_id == following.job_id
    failed = queue.get(job.job_id)
    assert (failed.status, failed.attempts) == ("failed", MAX_ATTEMPTS)
    assert failed.error and "3 times" in failed.error


def test_a_released_job_runs_again_and_may_leave_its_attempts_as_they_were(queue: JobQueue, leases: JobLeases) -> None:
    job = submit(queue)
    leases.release(claim(leases), reason="the worker was stopped", counts_as_attempt=False)
    assert (queue.get(job.job_id).status, queue.get(job.job_id).attempts) == ("queued", 0)
    leases.release(claim(leases), reason="its process was killed", counts_as_attempt=True)
    assert queue.get(job.job_id).attempts == 1
    assert claim(leases).attempts == 2


def test_a_job_released_after_its_last_attempt_fails_with_the_reason(queue: JobQueue, leases: JobLeases) -> None:
    job = submit(queue)
    for _ in range(MAX_ATTEMPTS):
        leases.release(claim(leases), reason="killed by SIGKILL", counts_as_attempt=True)
    failed = queue.get(job.job_id)
    assert failed.status == "failed"
    assert failed.error and "killed by SIGKILL" in failed.error


def _work_off(database_url: str) -> list[tuple[str, str, datetime, datetime]]:
    """Claim and finish jobs until none is left; return each with its group, start and end."""
    engine = open_database(database_url)
    leases = JobLeases(engine)
    done = []
    idle = 0
    while idle < 20:
        held = leases.claim(["train"], LONG_LEASE_S)
        if held is None:
            idle += 1
            continue
        idle = 0
        begun = datetime.now(UTC)
        leases.report(held, stage="one", progress=0.5)
        leases.heartbeat(held, LONG_LEASE_S)
        ended = datetime.now(UTC)
        leases.succeed(held, {})
        done.append((held.job_id, held.request["group"], begun, ended))
    engine.dispose()
    return done


def test_many_processes_racing_run_every_job_once_and_no_two_of_one_group_at_a_time(
    engine: Engine, database_url: str, pool: ProcessPoolExecutor
) -> None:
    queue = JobQueue(engine)
    groups = ("a", "b", "c")
    jobs = [
        queue.submit("train", {"group": groups[number % 3]}, by="claire", concurrency_group=groups[number % 3])
        for number in range(45)
    ]
    found = [one for done in pool.map(_work_off, [database_url] * 4) for one in done]
    assert sorted(job_id for job_id, *_ in found) == sorted(job.job_id for job in jobs)
    assert all(queue.get(job.job_id).attempts == 1 for job in jobs)
    for group in groups:
        spans = sorted((begun, ended) for _, its_group, begun, ended in found if its_group == group)
        assert all(ended <= begun for (_, ended), (begun, _) in pairwise(spans))
