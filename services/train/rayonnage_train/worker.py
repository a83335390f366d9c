"""Claim jobs and run each in a child process: `python -m rayonnage_train.worker`."""

from __future__ import annotations

import argparse
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from enum import Enum, auto
from pathlib import Path
from typing import Any

import structlog

from rayonnage_shared.core.settings import read_settings
from rayonnage_shared.database.engine import DATABASE_AWAY, migrate, open_database
from rayonnage_shared.jobs.leases import JobLeases, LeaseLost
from rayonnage_shared.jobs.queue import JobNotFound, JobQueue
from rayonnage_shared.jobs.rows import HeldJob
from rayonnage_shared.jobs.schemas import FINAL_STATUSES
from rayonnage_shared.observability.logging import set_up_logging
from rayonnage_shared.observability.metrics_server import metrics_server
from rayonnage_shared.pipelines.run_context import work_folder
from rayonnage_train.children import describe_exit, exited_within, stop_group
from rayonnage_train.job_types import DEFAULT_JOB_TYPES, load_job_types
from rayonnage_train.schedule import DriftSchedule
from rayonnage_train.settings import TrainSettings
from rayonnage_train.sync import SyncProcess
from rayonnage_train.worker_metrics import WorkerMetrics

log = structlog.get_logger()

POLL_S = 0.5
CHILD_POLL_S = 0.1
DATABASE_RETRY_S = 2.0


class Ending(Enum):
    """Why the worker stopped watching a job's process."""

    EXITED = auto()
    CANCELLED = auto()
    STOPPING = auto()
    LEASE_LOST = auto()
    LEASE_IN_DOUBT = auto()


@dataclass(frozen=True, slots=True)
class Worker:
    """Runs one job after the other until `stopping` is set."""

    queue: JobQueue
    leases: JobLeases
    job_types: str
    models_path: Path
    lease_s: float
    metrics: WorkerMetrics
    sync_process: SyncProcess
    schedule: DriftSchedule
    stopping: threading.Event

    @property
    def heartbeat_s(self) -> float:
        return self.lease_s / 4

    def run(self) -> None:
        """Run jobs until `stopping` is set. Waits while the database is unreachable."""
        try:
            self._run()
        finally:
            self.sync_process.stop()
        log.info("worker.stopped")

    def _run(self) -> None:
        kinds = list(load_job_types(self.job_types))
        log.info("worker.started", kinds=kinds, lease_s=self.lease_s)
        database_up = True
        while not self.stopping.is_set():
            self.sync_process.tick()
            try:
                self.schedule.tick()
                held = self.leases.claim(kinds, self.lease_s)
                database_up = True
            except DATABASE_AWAY as error:
                if database_up:
                    log.warning("worker.database_unreachable", error=str(error.orig))
                database_up = False
                self.stopping.wait(DATABASE_RETRY_S)
                continue
            if held is None:
                self.stopping.wait(POLL_S)
            else:
                self.run_job(held)

    def run_job(self, held: HeldJob) -> None:
        """Run one job in a child process, and write its state if the child did not."""
        log.info("job.started", job_id=held.job_id, kind=held.kind, attempt=held.attempts, by=held.submitted_by)
        started = time.monotonic()
        child = self._start(held)
        try:
            ending = self._watch(child, held)
        finally:
            stop_group(child)
        self._settle(held, ending, child.returncode)
        self._note_end(held, ending, time.monotonic() - started)

    def _start(self, held: HeldJob) -> subprocess.Popen[bytes]:
        command = [sys.executable, "-m", "rayonnage_train.runner", held.job_id, held.lease_token]
        options = ["--job-types", self.job_types, "--parent", str(os.getpid())]
        # In its own process group: Ctrl-C reaches only the worker, which stops its children in order.
        return subprocess.Popen([*command, *options], stdin=subprocess.DEVNULL, start_new_session=True)

    def _watch(self, child: subprocess.Popen[bytes], held: HeldJob) -> Ending:
        """Send heartbeats until the job's process ends or must be stopped."""
        held_until = time.monotonic() + self.lease_s
        next_heartbeat = time.monotonic() + self.heartbeat_s
        while True:
            if exited_within(child, CHILD_POLL_S):
                return Ending.EXITED
            if self.stopping.is_set():
                return Ending.STOPPING
            self.sync_process.tick()
            asked_at = time.monotonic()
            if asked_at < next_heartbeat:
                continue
            next_heartbeat = asked_at + self.heartbeat_s
            try:
                cancel = self.leases.heartbeat(held, self.lease_s)
                held_until = asked_at + self.lease_s
            except LeaseLost:
                return Ending.EXITED if exited_within(child, CHILD_POLL_S) else Ending.LEASE_LOST
            except DATABASE_AWAY as error:
                log.warning("job.heartbeat_failed", job_id=held.job_id, error=str(error.orig))
                if time.monotonic() + self.heartbeat_s >= held_until:
                    return Ending.LEASE_IN_DOUBT  # stop before another worker can claim the job
                continue
            if cancel:
                return Ending.CANCELLED

    def _settle(self, held: HeldJob, ending: Ending, status: int) -> None:
        """Write the job's state, unless its process has written its end."""
        match ending:
            case Ending.EXITED:
                reason = f"Its process {describe_exit(status)} before the job had ended."
                self._try(lambda: self.leases.release(held, reason=reason, counts_as_attempt=True))
            case Ending.CANCELLED:
                self._try(lambda: self.leases.cancel(held))
            case Ending.STOPPING:
                reason = "The worker was stopped; the job resumes from its last finished stage."
                self._try(lambda: self.leases.release(held, reason=reason, counts_as_attempt=False))
            case Ending.LEASE_IN_DOUBT:
                reason = "The database could not be reached; the job resumes from its last finished stage."
                self._try(lambda: self.leases.release(held, reason=reason, counts_as_attempt=False))
            case Ending.LEASE_LOST:
                log.warning("job.lease_lost", job_id=held.job_id)

    def _try(self, write: Callable[[], None]) -> None:
        try:
            write()
        except LeaseLost:
            pass  # the job's process has written its end
        except DATABASE_AWAY as error:
            log.warning("job.update_failed", error=str(error.orig), note="the lease will expire")

    def _note_end(self, held: HeldJob, ending: Ending, seconds: float) -> None:
        try:
            job = self.queue.get(held.job_id)
        except DATABASE_AWAY:
            return
        log.info(
            "job.process_ended",
            job_id=job.job_id,
            status=job.status,
            ending=ending.name.lower(),
            seconds=round(seconds, 1),
        )
        if job.status in FINAL_STATUSES:
            self.metrics.ended(job)
            shutil.rmtree(work_folder(self.models_path, job.job_id), ignore_errors=True)


def remove_finished_work(queue: JobQueue, models_path: Path) -> None:
    """Remove the work folders of ended jobs, which a crash between a job's end and its clean-up leaves."""
    for folder in (models_path / ".work").glob("*"):
        try:
            ended = queue.get(folder.name).status in FINAL_STATUSES
        except JobNotFound:
            continue  # of the command line
        if ended:
            shutil.rmtree(folder, ignore_errors=True)


def main() -> None:
    """Run a worker until SIGTERM or SIGINT."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--job-types", default=DEFAULT_JOB_TYPES, help="package.module:attribute")
    arguments = parser.parse_args()
    settings = read_settings(TrainSettings)
    set_up_logging("train-worker", settings)
    stopping = threading.Event()

    def stop(_number: int, _frame: Any) -> None:
        stopping.set()

    signal.signal(signal.SIGTERM, stop)
    signal.signal(signal.SIGINT, stop)
    engine = open_database(settings.database_url)
    queue = JobQueue(engine)
    metrics = WorkerMetrics()
    with metrics_server(settings.train_worker_metrics_host, settings.train_worker_metrics_port, metrics.registry):
        migrate(engine)
        remove_finished_work(queue, settings.models_path)
        sync_process = SyncProcess(settings, metrics)
        Worker(
            queue=queue,
            leases=JobLeases(engine),
            job_types=arguments.job_types,
            models_path=settings.models_path,
            lease_s=settings.train_lease_s,
            metrics=metrics,
            sync_process=sync_process,
            schedule=DriftSchedule(settings, engine),
            stopping=stopping,
        ).run()
    engine.dispose()


if __name__ == "__main__":
    main()
