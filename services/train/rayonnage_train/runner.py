"""Run one claimed job: `python -m rayonnage_train.runner <job_id> <lease_token>`, started by the worker.

With a process per job, its memory is freed when it ends, it can be stopped whatever it is doing, and the worker can
send heartbeats while it computes.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import sys
import threading
import time
import traceback
from collections.abc import Callable

import structlog
from pydantic import ValidationError

from rayonnage_shared.core.errors import RayonnageError
from rayonnage_shared.core.parent_process import die_with
from rayonnage_shared.core.validation import faults
from rayonnage_shared.database.engine import DATABASE_AWAY, open_database
from rayonnage_shared.jobs.leases import JobLeases, LeaseLost
from rayonnage_shared.jobs.rows import HeldJob
from rayonnage_shared.ml.training.requests import PipelineRequest
from rayonnage_shared.observability.logging import set_up_logging
from rayonnage_shared.observability.tracing import set_up_tracing, stop_tracing, tracing
from rayonnage_shared.pipelines.run_context import RunContext
from rayonnage_train.family_installs import install_missing
from rayonnage_train.job_reporter import JobReporter
from rayonnage_train.job_types import DEFAULT_JOB_TYPES, JobType, load_job_types
from rayonnage_train.settings import TrainSettings

log = structlog.get_logger()

EXIT_LEASE_LOST = 75  # EX_TEMPFAIL
WATCH_EVERY_S = 1.0
END_RETRY_S = 60.0
NICENESS = 10  # predictions on the same machine come first
TRACEBACK_LINES = 12


def main() -> int:
    """Run the job named on the command line; exit with 0 once its end is recorded."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("job_id")
    parser.add_argument("lease_token")
    parser.add_argument("--job-types", default=DEFAULT_JOB_TYPES)
    parser.add_argument("--parent", type=int, help="exit when this process exits")
    parser.add_argument("--installed", action="store_true", help="started again after an installation")
    arguments = parser.parse_args()
    if arguments.parent is not None:
        die_with(arguments.parent)
    if not arguments.installed:
        os.nice(NICENESS)
    settings = TrainSettings()
    set_up_logging("train-runner", settings)
    set_up_tracing("train-runner", settings)
    structlog.contextvars.bind_contextvars(job_id=arguments.job_id)  # in every line of this process
    job_types = load_job_types(arguments.job_types)
    engine = open_database(settings.database_url)
    leases, start_again = JobLeases(engine), False
    try:
        held = leases.held(arguments.job_id, arguments.lease_token)
        watch_lease(leases, held)
        traces = tracing()
        with traces.work(f"job {held.kind}", job_id=held.job_id) if traces else contextlib.nullcontext():
            reporter = JobReporter(held, leases)
            run = RunContext(
                settings=settings,
                engine=engine,
                job_id=held.job_id,
                submitted_by=held.submitted_by,
                stage=reporter.stage,
                progress=reporter.progress,
            )
            start_again = run_job(
                job_types[held.kind], held, leases, reporter, run, may_install=not arguments.installed
            )
    except LeaseLost as error:
        log.warning("job.lease_lost", job_id=arguments.job_id, detail=error.detail)
        return EXIT_LEASE_LOST
    finally:
        engine.dispose()
        stop_tracing()
    if start_again:
        # The same process id, so that the worker goes on watching it, with the packages that are there now.
        command = [sys.executable, "-m", "rayonnage_train.runner", *sys.argv[1:], "--installed"]
        os.execv(command[0], command)  # noqa: S606 - becomes the command
    return 0


def run_job(
    job_type: JobType,
    held: HeldJob,
    leases: JobLeases,
    reporter: JobReporter,
    run: RunContext[TrainSettings],
    *,
    may_install: bool = False,
) -> bool:
    """Run the job's handler and write how it ended; return whether the job must be run by a fresh process instead.

    That is so if what its families lacked has been installed. Raises LeaseLost.
    """
    try:
        request = job_type.request.model_validate(held.request)
    except ValidationError as error:  # queued by another version
        log.warning("job.request_invalid", job_id=held.job_id, error=repr(error))
        _fail(held, leases, reporter, f"The request is not valid: {faults(error)[0].message} Submit the job again.", [])
        return False
    try:
        if may_install and isinstance(request, PipelineRequest) and install_missing(request, run):
            reporter.flush()
            return True
        result = job_type.load_handler()(request, run)
        reporter.flush()
        _write_end(lambda: leases.succeed(held, result))
    except LeaseLost:
        raise
    except RayonnageError as error:
        log.warning("job.failed", job_id=held.job_id, code=error.code, detail=error.detail)
        _fail(held, leases, reporter, error.detail, [])
    except Exception as error:  # recorded with the job, where somebody will read it
        log.exception("job.failed", job_id=held.job_id)
        lines = "".join(traceback.format_exception(error)).splitlines()[-TRACEBACK_LINES:]
        _fail(held, leases, reporter, f"{type(error).__name__}: {error}", lines)
    return False


def _fail(held: HeldJob, leases: JobLeases, reporter: JobReporter, error: str, lines: list[str]) -> None:
    reporter.flush()
    _write_end(lambda: leases.fail(held, error, lines))


def _write_end(write: Callable[[], None]) -> None:
    """Write the job's end, and retry while the database is unreachable: hours of work are at stake."""
    deadline = time.monotonic() + END_RETRY_S
    while True:
        try:
            return write()
        except DATABASE_AWAY:
            if time.monotonic() > deadline:
                raise
            time.sleep(WATCH_EVERY_S)


def watch_lease(leases: JobLeases, held: HeldJob) -> None:
    """Exit this process when the job is given to another worker, for example because its own was suspended."""

    def watch() -> None:
        while True:
            time.sleep(WATCH_EVERY_S)
            try:
                leases.held(held.job_id, held.lease_token)
            except LeaseLost:
                os._exit(EXIT_LEASE_LOST)  # also after the job's end: nothing is left to do
            except DATABASE_AWAY:
                continue
            except Exception:  # without the watch, two workers might run the job
                log.exception("job.lease_check_failed", job_id=held.job_id)

    threading.Thread(target=watch, name="lease-watch", daemon=True).start()


if __name__ == "__main__":
    sys.exit(main())
