"""Runs one claimed job in a process of its own: `python -m rayonnage_train.runner <job_id> <lease_token>`.

The worker starts it. A process for each job gives its memory back, can be stopped whatever it is doing, and leaves the
worker free to say that it is alive while this one computes.
"""

from __future__ import annotations

import argparse
import contextlib
import os
import sys
import threading
import time
import traceback
from collections.abc import Callable, Mapping

import structlog

from rayonnage_shared.core.errors import RayonnageError
from rayonnage_shared.core.host import die_with
from rayonnage_shared.database.engine import DATABASE_AWAY, open_database
from rayonnage_shared.jobs.queue import JobQueue, LeaseLost
from rayonnage_shared.observability.logging import set_up_logging
from rayonnage_shared.observability.tracing import set_up_tracing, stop_tracing, tracing
from rayonnage_train.handlers import DEFAULT_KINDS, load_kinds
from rayonnage_train.job_context import JobContext, JobFunction
from rayonnage_train.settings import TrainSettings

log = structlog.get_logger()

EXIT_LEASE_LOST = 75  # EX_TEMPFAIL
WATCH_EVERY_S = 1.0
LAST_WORD_RETRY_S = 60.0
NICENESS = 10  # predictions on the same machine come first
TRACEBACK_LINES = 12


def main() -> int:
    """Run the job named on the command line; the exit status is 0 when the job's row tells how it ended."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("job_id")
    parser.add_argument("lease_token")
    parser.add_argument("--kinds", default=DEFAULT_KINDS)
    parser.add_argument("--parent", type=int, help="process that this one must not outlive")
    arguments = parser.parse_args()
    if arguments.parent is not None:
        die_with(arguments.parent)
    os.nice(NICENESS)
    settings = TrainSettings()
    set_up_logging("train-runner", settings)
    set_up_tracing("train-runner", settings)
    structlog.contextvars.bind_contextvars(job_id=arguments.job_id)  # every line of this process is about it
    kinds = load_kinds(arguments.kinds)
    engine = open_database(settings.database_url)
    queue = JobQueue(engine)
    try:
        held = queue.held(arguments.job_id, arguments.lease_token)
        watch_lease(queue, held.job_id, held.lease_token)
        traces = tracing()
        with traces.work(f"job {held.kind}", job_id=held.job_id) if traces else contextlib.nullcontext():
            run_job(kinds, JobContext(held, queue, engine, settings), queue, held.kind, held.lease_token)
    except LeaseLost as error:
        log.warning("job.lease_lost", job_id=arguments.job_id, detail=error.detail)
        return EXIT_LEASE_LOST
    finally:
        engine.dispose()
        stop_tracing()
    return 0


def run_job(kinds: Mapping[str, JobFunction], context: JobContext, queue: JobQueue, kind: str, token: str) -> None:
    """Run the job's function and write how it ended. Raises LeaseLost."""
    try:
        result = kinds[kind](context)
        context.flush()
        _last_word(lambda: queue.succeed(context.job_id, token, result))
    except LeaseLost:
        raise
    except RayonnageError as error:
        log.warning("job.failed", job_id=context.job_id, code=error.code, detail=error.detail)
        _fail(context, queue, token, error.detail, [])
    except Exception as error:  # whatever it was belongs on the job, where somebody will read it
        log.exception("job.failed", job_id=context.job_id)
        lines = "".join(traceback.format_exception(error)).splitlines()[-TRACEBACK_LINES:]
        _fail(context, queue, token, f"{type(error).__name__}: {error}", lines)


def _fail(context: JobContext, queue: JobQueue, token: str, error: str, lines: list[str]) -> None:
    context.flush()
    _last_word(lambda: queue.fail(context.job_id, token, error, lines))


def _last_word(write: Callable[[], None]) -> None:
    """Write the job's end; a database that is away for a moment must not cost the whole work."""
    deadline = time.monotonic() + LAST_WORD_RETRY_S
    while True:
        try:
            return write()
        except DATABASE_AWAY:
            if time.monotonic() > deadline:
                raise
            time.sleep(WATCH_EVERY_S)


def watch_lease(queue: JobQueue, job_id: str, token: str) -> None:
    """Make sure that this process ends when the job is given to another, as when its worker was suspended."""

    def watch() -> None:
        while True:
            time.sleep(WATCH_EVERY_S)
            try:
                queue.held(job_id, token)
            except LeaseLost:
                os._exit(EXIT_LEASE_LOST)  # after the job's own end too, where nothing is left to do
            except DATABASE_AWAY:
                continue

    threading.Thread(target=watch, name="lease-watch", daemon=True).start()


if __name__ == "__main__":
    sys.exit(main())
