"""Writes a running job's stage and progress to its row."""

from __future__ import annotations

import time
from datetime import UTC, datetime
from typing import Any

import structlog

from rayonnage_shared.database.engine import DATABASE_AWAY
from rayonnage_shared.jobs.leases import JobLeases
from rayonnage_shared.jobs.rows import HeldJob

REPORT_EVERY_S = 0.5

log = structlog.get_logger()


class JobReporter:
    """Writes reports at most twice a second, except the start of a stage. LeaseLost is raised once the job is lost.

    What cannot be written while the database is unreachable is written with the next report.
    """

    def __init__(self, held: HeldJob, leases: JobLeases) -> None:
        self._held = held
        self._leases = leases
        self._unwritten: dict[str, Any] = {}
        self._lines: list[str] = []
        self._written_at = float("-inf")

    def stage(self, name: str) -> None:
        """Report that a stage begins."""
        log.info("job.stage_started", job_id=self._held.job_id, stage=name)
        self._unwritten |= {"stage": name, "message": name}
        self._lines.append(f"{datetime.now(UTC):%H:%M:%S} {name}")
        self.flush()

    def progress(self, fraction: float, message: str) -> None:
        """Report how much of the job is done, 0 to 1."""
        self._unwritten |= {"progress": float(fraction), "message": message}
        if time.monotonic() - self._written_at >= REPORT_EVERY_S:
            self.flush()

    def flush(self) -> None:
        """Write what is not written yet."""
        self._written_at = time.monotonic()
        if not self._unwritten and not self._lines:
            return
        try:
            self._leases.report(self._held, lines=self._lines, **self._unwritten)
        except DATABASE_AWAY as error:
            log.warning("job.report_failed", job_id=self._held.job_id, error=str(error.orig))
        else:
            self._unwritten, self._lines = {}, []
