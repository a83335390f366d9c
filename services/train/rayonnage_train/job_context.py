"""What a job's function gets from the worker."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import structlog
from sqlalchemy import Engine

from rayonnage_shared.database.engine import DATABASE_AWAY
from rayonnage_shared.jobs.queue import JobQueue
from rayonnage_shared.jobs.rows import HeldJob
from rayonnage_train.settings import TrainSettings

REPORT_EVERY_S = 0.5

log = structlog.get_logger()


class JobContext:
    """One job as its function sees it: what was asked, where to work, whom to tell.

    Reports go to the job's row at most twice a second; each raises LeaseLost once the job belongs to another worker.
    """

    def __init__(self, held: HeldJob, queue: JobQueue, engine: Engine, settings: TrainSettings) -> None:
        self.job_id = held.job_id
        self.request = held.request
        self.submitted_by = held.submitted_by
        self.engine = engine
        self.settings = settings
        self._token = held.lease_token
        self._queue = queue
        self._lock = threading.Lock()
        self._unsaid: dict[str, Any] = {}
        self._lines: list[str] = []
        self._reported_at = float("-inf")

    @property
    def work(self) -> Path:
        """The folder for what finished stages leave to a later attempt; removed after the job has ended."""
        return work_folder(self.settings.models_path, self.job_id)

    def stage(self, name: str) -> None:
        """Say that a new stage begins."""
        log.info("job.stage", job_id=self.job_id, stage=name)
        self._unsaid |= {"stage": name, "progress": 0.0, "message": name}
        self._lines.append(_stamped(name))
        self.flush()

    def progress(self, fraction: float, message: str) -> None:
        """Say how much of the present stage is done, 0 to 1."""
        self._unsaid |= {"progress": float(fraction), "message": message}
        self._flush_now_and_then()

    def log(self, line: str) -> None:
        """Add a line to the job's log."""
        self._lines.append(_stamped(line))
        self._flush_now_and_then()

    def flush(self) -> None:
        """Write what was not written yet; what cannot be written now, since the database is away, comes later."""
        with self._lock:
            self._reported_at = time.monotonic()
            unsaid, lines = self._unsaid, self._lines
            self._unsaid, self._lines = {}, []
            if not unsaid and not lines:
                return
            try:
                self._queue.report(self.job_id, self._token, lines=lines, **unsaid)
            except DATABASE_AWAY as error:
                log.warning("job.report_failed", job_id=self.job_id, error=str(error.orig))
                self._unsaid = unsaid | self._unsaid
                self._lines = lines + self._lines

    def _flush_now_and_then(self) -> None:
        if time.monotonic() - self._reported_at >= REPORT_EVERY_S:
            self.flush()


JobFunction = Callable[[JobContext], dict[str, Any]]
"""Does the whole job and returns its result; a later attempt of the same job finds the same work folder."""


def work_folder(models_path: Path, job_id: str) -> Path:
    """Return where a job's stages leave their results."""
    return models_path / ".work" / job_id


def _stamped(line: str) -> str:
    return f"{datetime.now(UTC):%H:%M:%S} {line}"
