"""A job's row and its state transitions; `queue` and `leases` decide who may change it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from ulid import ULID

from rayonnage_shared.database.tables import JobRow
from rayonnage_shared.jobs.schemas import Job, JobStatus

MAX_ATTEMPTS = 3
LOG_TAIL_LINES = 50
MAX_LINE_CHARACTERS = 1000  # `message` is a column of this width
MAX_STAGE_CHARACTERS = 64  # and so is `stage`
MAX_ERROR_CHARACTERS = 10_000


@dataclass(frozen=True, slots=True)
class HeldJob:
    """A claimed job; `lease_token` is the right to write to it."""

    job_id: str
    kind: str
    lease_token: str = field(repr=False)
    request: dict[str, Any]
    submitted_by: str
    attempts: int


def expired(row: JobRow, moment: datetime) -> bool:
    """Return whether no worker holds the job at `moment`."""
    return row.lease_expires_at is None or row.lease_expires_at <= moment


def hold(row: JobRow, moment: datetime, lease_s: float) -> HeldJob:
    """Lease the job to a worker for `lease_s` seconds."""
    token = str(ULID())
    row.status = "running"
    row.attempts += 1
    row.lease_token = token
    row.lease_expires_at = moment + timedelta(seconds=lease_s)
    row.started_at = row.started_at or moment
    return held_job(row, token)


def held_job(row: JobRow, token: str) -> HeldJob:
    """Return the job as its worker sees it."""
    return HeldJob(row.job_id, row.kind, token, row.request, row.submitted_by, row.attempts)


def end(row: JobRow, status: JobStatus, moment: datetime) -> None:
    """Put the job into its final state."""
    row.status = status
    row.finished_at = moment
    row.lease_token = row.lease_expires_at = None
    if status == "cancelled":
        row.message = "cancelled"


def fail_for_good(row: JobRow, moment: datetime) -> None:
    """Fail a job that has lost its process MAX_ATTEMPTS times."""
    last = f" Last attempt: {row.message}" if row.message else ""
    row.error = (
        f"Its process was lost {row.attempts} times before it finished; it is not retried.{last} "
        "Check the worker's log and memory, then submit the job again."
    )
    end(row, "failed", moment)


def with_lines(tail: Sequence[str], lines: Sequence[str]) -> list[str]:
    """Return the log tail with these lines appended."""
    return [*tail, *(printable(line, MAX_LINE_CHARACTERS) for line in lines)][-LOG_TAIL_LINES:]


def printable(words: str, limit: int) -> str:
    """Return text that a column accepts: at most `limit` characters, and no NUL, which PostgreSQL does not store."""
    return words.replace("\x00", "")[:limit]


def finite(value: Any) -> Any:
    """Return a JSON value in which numbers that are not finite are null."""
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, dict):
        return {key: finite(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [finite(inner) for inner in value]
    return value


def as_job(row: JobRow) -> Job:
    """Return the job as the API shows it."""
    return Job.model_validate(row, from_attributes=True)
