"""`rayonnage jobs`: list, show, follow and cancel the jobs of the platform, without its HTTP API."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeElapsedColumn
from rich.table import Column, Table

from rayonnage_shared.cli.database import command_database
from rayonnage_shared.core.settings import DatabaseSettings
from rayonnage_shared.jobs.schemas import FINAL_STATUSES, Job, JobStatus

if TYPE_CHECKING:
    from rayonnage_shared.jobs.queue import JobQueue

POLL_S = 0.5

JobId = Annotated[str, typer.Argument(help="The job's id, as `rayonnage jobs list` shows it.")]


def register(app: typer.Typer) -> None:
    """Add the job commands."""
    jobs = typer.Typer(no_args_is_help=True, help="List, show, follow and cancel jobs.")
    jobs.command("list")(list_jobs)
    jobs.command("show")(show_job)
    jobs.command("follow")(follow_job)
    jobs.command("cancel")(cancel_job)
    app.add_typer(jobs, name="jobs")


def list_jobs(
    kind: Annotated[str | None, typer.Option(help="Only jobs of this type, such as train, search or drift.")] = None,
    status: Annotated[JobStatus | None, typer.Option(help="Only jobs with this status.")] = None,
    limit: Annotated[int, typer.Option(min=1, max=500, help="How many jobs to show.")] = 20,
) -> None:
    """List the jobs, newest first."""
    from rayonnage_shared.jobs.queue import JobQueue

    with command_database(DatabaseSettings()) as engine:
        jobs = JobQueue(engine).list(kinds=[kind] if kind else None, status=status, limit=limit)
    table = Table(Column("job", no_wrap=True), "kind", "status", "stage", "by", "submitted (UTC)")
    for job in jobs:
        table.add_row(
            job.job_id, job.kind, job.status, job.stage or "", job.submitted_by, f"{job.submitted_at:%m-%d %H:%M}"
        )
    Console().print(table)


def show_job(job_id: JobId) -> None:
    """Print a job as JSON, as `GET /train/jobs/{job_id}` returns it."""
    from rayonnage_shared.jobs.queue import JobQueue

    with command_database(DatabaseSettings()) as engine:
        print(JobQueue(engine).get(job_id).model_dump_json(indent=2))


def follow_job(job_id: JobId) -> None:
    """Show the progress of a job until it ends. Exits with 1 unless it succeeded; Ctrl-C leaves the job running."""
    from rayonnage_shared.jobs.queue import JobQueue

    with command_database(DatabaseSettings()) as engine:
        job = _follow(JobQueue(engine), job_id)
    print(job.model_dump_json(indent=2, include={"job_id", "kind", "status", "error", "result"}))
    if job.status != "succeeded":
        raise typer.Exit(1)


def cancel_job(job_id: JobId) -> None:
    """Cancel a job: at once if it is queued, within seconds if it is running."""
    from rayonnage_shared.jobs.queue import JobQueue

    with command_database(DatabaseSettings()) as engine:
        job = JobQueue(engine).request_cancel(job_id)
    print(f"Job {job.job_id} is cancelled." if job.status == "cancelled" else f"Job {job.job_id} is being cancelled.")


def _follow(queue: JobQueue, job_id: str) -> Job:
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TaskProgressColumn(),
        TimeElapsedColumn(),
        TextColumn("{task.fields[message]}"),
    )
    with Progress(*columns, console=Console(stderr=True)) as bar:
        task = bar.add_task("queued", total=1.0, message="")
        while True:
            job = queue.get(job_id)
            bar.update(
                task, description=job.stage or job.status, completed=job.progress, message=job.message or job.status
            )
            if job.status in FINAL_STATUSES:
                return job
            time.sleep(POLL_S)
