"""`rayonnage jobs`."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner, Result

from rayonnage_shared.cli import jobs
from rayonnage_shared.database.engine import migrate, open_database
from rayonnage_shared.jobs.leases import JobLeases
from rayonnage_shared.jobs.queue import JobFinished, JobNotFound, JobQueue
from tests.unit.shared.jobs.jobs import claim, submit


class CommandLine:
    def __init__(self, folder: Path) -> None:
        self.app = typer.Typer()
        jobs.register(self.app)
        self.engine = open_database(f"sqlite:///{folder}/rayonnage.db")
        migrate(self.engine)
        self.queue, self.leases = JobQueue(self.engine), JobLeases(self.engine)

    def run(self, *arguments: str) -> Result:
        return CliRunner().invoke(self.app, ["jobs", *arguments], catch_exceptions=False)


@pytest.fixture
def command_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[CommandLine]:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DATABASE_URL", f"sqlite:///{tmp_path}/rayonnage.db")
    monkeypatch.setenv("COLUMNS", "80")
    opened = CommandLine(tmp_path)
    yield opened
    opened.engine.dispose()


def test_jobs_are_listed_newest_first_in_80_columns_by_kind_and_status(command_line: CommandLine) -> None:
    older, newer = submit(command_line.queue), submit(command_line.queue)
    drift = command_line.queue.submit("drift", {}, by="claire", concurrency_group="drift")
    command_line.queue.request_cancel(older.job_id)

    output = command_line.run("list").output
    assert [job_id for job_id in output.split() if len(job_id) == 26] == [drift.job_id, newer.job_id, older.job_id]
    assert max(map(len, output.splitlines())) <= 80
    only_trainings = command_line.run("list", "--kind", "train").output
    assert drift.job_id not in only_trainings and newer.job_id in only_trainings
    only_cancelled = command_line.run("list", "--status", "cancelled").output
    assert older.job_id in only_cancelled and newer.job_id not in only_cancelled
    assert command_line.run("list", "--limit", "1").output.count("claire") == 1
    assert command_line.run("list", "--status", "asleep").exit_code == 2


def test_a_job_is_shown_as_json(command_line: CommandLine) -> None:
    job = submit(command_line.queue)
    assert json.loads(command_line.run("show", job.job_id).output) == job.model_dump(mode="json")
    with pytest.raises(JobNotFound):
        command_line.run("show", "nothing")


def test_following_ends_with_the_job(command_line: CommandLine, monkeypatch: pytest.MonkeyPatch) -> None:
    job = submit(command_line.queue)
    held = claim(command_line.leases)
    steps = iter((lambda: command_line.leases.succeed(held, {"version": "v1"}),))
    monkeypatch.setattr("rayonnage_shared.cli.jobs.time.sleep", lambda _seconds: next(steps)())

    result = command_line.run("follow", job.job_id)

    assert result.exit_code == 0
    found = json.loads(result.stdout)
    assert (found["job_id"], found["status"], found["result"]) == (job.job_id, "succeeded", {"version": "v1"})


def test_following_a_job_that_does_not_succeed_exits_with_1(command_line: CommandLine) -> None:
    job = submit(command_line.queue)
    command_line.queue.request_cancel(job.job_id)
    result = command_line.run("follow", job.job_id)
    assert (result.exit_code, json.loads(result.stdout)["status"]) == (1, "cancelled")


def test_a_queued_job_is_cancelled_at_once_a_running_one_by_its_worker(command_line: CommandLine) -> None:
    queued = submit(command_line.queue)
    assert "is cancelled" in command_line.run("cancel", queued.job_id).output
    assert command_line.queue.get(queued.job_id).status == "cancelled"
    with pytest.raises(JobFinished):
        command_line.run("cancel", queued.job_id)

    running = submit(command_line.queue)
    claim(command_line.leases)
    assert "is being cancelled" in command_line.run("cancel", running.job_id).output
    assert command_line.queue.get(running.job_id).status == "running"
