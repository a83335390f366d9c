"""A worker process sees each job through once, whatever is killed."""

from __future__ import annotations

import os
import signal
from collections.abc import Mapping
from itertools import pairwise
from urllib.request import urlopen

from rayonnage_shared.core import host
from rayonnage_shared.jobs.queue import JobQueue
from rayonnage_shared.jobs.rows import MAX_ATTEMPTS
from rayonnage_shared.jobs.schemas import Job
from tests.e2e.jobs.conftest import Workers, ended
from tests.e2e.jobs.job_types import STAGES
from tests.waiting import PATIENCE_S, eventually

HELD_IN_SECOND = {"hold": "second"}


def submit(queue: JobQueue, kind: str, request: Mapping[str, object] | None = None) -> Job:
    return queue.submit(kind, dict(request or {}), by="claire", concurrency_group="models")


def diary(workers: Workers, job: Job) -> list[tuple[str, int]]:
    """Return the stages that were begun, in order, with the process that did."""
    path = workers.models / f"{job.job_id}.diary"
    lines = path.read_text().splitlines() if path.exists() else []
    return [(line.split()[0], int(line.split()[1])) for line in lines]


def in_stage(queue: JobQueue, job: Job, stage: str) -> bool:
    return queue.get(job.job_id).stage == stage


def test_a_job_runs_in_a_process_of_its_own_and_reports_its_result(workers: Workers, queue: JobQueue) -> None:
    worker = workers.start()
    job = ended(queue, submit(queue, "in_stages", {"word": "été"}).job_id)
    assert (job.status, job.stage, job.progress, job.attempts) == ("succeeded", "third", 1.0, 1)
    assert job.result is not None
    assert job.result["echo"] == {"word": "été"}
    assert job.result["pid"] != worker.pid
    assert [line.split()[1] for line in job.log_tail] == list(STAGES)
    assert eventually(lambda: not (workers.models / ".work" / job.job_id).exists())


def test_two_workers_share_the_jobs_and_never_run_two_of_one_group_at_once(workers: Workers, queue: JobQueue) -> None:
    workers.start()
    workers.start()
    jobs = [submit(queue, "in_stages") for _ in range(4)]
    done = [ended(queue, job.job_id) for job in jobs]
    assert [job.status for job in done] == ["succeeded"] * 4
    assert [job.attempts for job in done] == [1] * 4
    for one, following in pairwise(done):
        assert one.finished_at and following.started_at
        assert one.finished_at <= following.started_at


def test_a_domain_error_ends_the_job_with_its_sentence(workers: Workers, queue: JobQueue) -> None:
    workers.start()
    job = ended(queue, submit(queue, "refused").job_id)
    assert (job.status, job.attempts) == ("failed", 1)
    assert job.error == "There are 3 products; ingest at least 20."


def test_an_unexpected_error_ends_the_job_with_its_traceback_in_the_log(workers: Workers, queue: JobQueue) -> None:
    workers.start()
    job = ended(queue, submit(queue, "broken").job_id)
    assert (job.status, job.error) == ("failed", "ZeroDivisionError: division by zero")
    assert any("job_types.py" in line for line in job.log_tail)


def test_a_running_job_is_cancelled(workers: Workers, queue: JobQueue) -> None:
    workers.start()
    job = submit(queue, "in_stages", {"hold": "first"})
    assert eventually(lambda: len(diary(workers, job)) == 1)
    queue.request_cancel(job.job_id)
    assert ended(queue, job.job_id).status == "cancelled"
    (_, child) = diary(workers, job)[0]
    assert host.wait_until_gone([child], PATIENCE_S)


def test_a_job_that_ignores_sigterm_is_killed_after_the_grace(workers: Workers, queue: JobQueue) -> None:
    workers.start()
    job = submit(queue, "deaf")
    assert eventually(lambda: in_stage(queue, job, "deaf"))
    queue.request_cancel(job.job_id)
    assert ended(queue, job.job_id).status == "cancelled"


def test_a_killed_child_is_started_again_from_its_last_finished_stage(workers: Workers, queue: JobQueue) -> None:
    workers.start()
    job = submit(queue, "in_stages", HELD_IN_SECOND)
    assert eventually(lambda: in_stage(queue, job, "second"))
    os.kill(diary(workers, job)[-1][1], signal.SIGKILL)
    assert eventually(lambda: len(diary(workers, job)) == 3)
    workers.let_go()
    done = ended(queue, job.job_id)
    assert (done.status, done.attempts) == ("succeeded", 2)
    assert [stage for stage, _ in diary(workers, job)] == ["first", "second", "second", "third"]
    assert any("SIGKILL" in line for line in done.log_tail)


def test_a_killed_worker_takes_its_child_along_and_another_finishes_the_job_once(
    workers: Workers, queue: JobQueue
) -> None:
    first = workers.start(lease_s=1)
    job = submit(queue, "in_stages", HELD_IN_SECOND)
    assert eventually(lambda: in_stage(queue, job, "second"))
    first.kill()
    first.wait()
    child = diary(workers, job)[-1][1]
    assert host.wait_until_gone([child], PATIENCE_S)
    workers.let_go()
    workers.start()
    done = ended(queue, job.job_id)
    assert (done.status, done.attempts) == ("succeeded", 2)
    assert [stage for stage, _ in diary(workers, job)] == ["first", "second", "second", "third"]


def test_a_suspended_worker_loses_the_job_and_its_child_stops(workers: Workers, queue: JobQueue) -> None:
    first = workers.start(lease_s=1)
    job = submit(queue, "in_stages", {"hold": "first"})
    assert eventually(lambda: in_stage(queue, job, "first"))
    first.send_signal(signal.SIGSTOP)
    try:
        workers.start()
        assert eventually(lambda: queue.get(job.job_id).attempts == 2)
        child = diary(workers, job)[0][1]
        assert host.wait_until_gone([child], PATIENCE_S), "it ends while its parent is suspended"
    finally:
        first.send_signal(signal.SIGCONT)
    workers.let_go()
    done = ended(queue, job.job_id)
    assert (done.status, done.attempts) == ("succeeded", 2)


def test_a_job_that_kills_its_process_every_time_fails_after_the_last_attempt(
    workers: Workers, queue: JobQueue
) -> None:
    workers.start()
    job = ended(queue, submit(queue, "lost").job_id)
    assert (job.status, job.attempts) == ("failed", MAX_ATTEMPTS)
    assert job.error is not None
    assert "SIGKILL" in job.error


def test_sigterm_gives_the_job_back_without_counting_an_attempt(workers: Workers, queue: JobQueue) -> None:
    first = workers.start()
    job = submit(queue, "in_stages", HELD_IN_SECOND)
    assert eventually(lambda: in_stage(queue, job, "second"))
    first.send_signal(signal.SIGTERM)
    assert first.wait(PATIENCE_S) == 0, "it does not wait for the job's end"
    released = queue.get(job.job_id)
    assert (released.status, released.attempts) == ("queued", 0)
    workers.let_go()
    workers.start()
    assert ended(queue, job.job_id).attempts == 1
    assert [stage for stage, _ in diary(workers, job)] == ["first", "second", "second", "third"]


def test_a_worker_shows_the_durations_of_jobs_to_prometheus(workers: Workers, queue: JobQueue) -> None:
    workers.start()
    ended(queue, submit(queue, "in_stages").job_id)

    def page() -> str:
        with urlopen(f"http://127.0.0.1:{workers.ports[0]}/metrics", timeout=PATIENCE_S) as answer:
            return str(answer.read().decode())

    counted = 'rayonnage_job_duration_seconds_count{kind="in_stages",status="succeeded"} 1.0'
    assert eventually(lambda: counted in page())
