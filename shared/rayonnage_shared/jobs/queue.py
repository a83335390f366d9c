"""The queue of jobs as services see it: submit, list and cancel. Workers take jobs from it by `leases`."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any, NamedTuple

import structlog
from sqlalchemy import Engine, func
from sqlmodel import Session, col, select
from sqlmodel.sql.expression import SelectOfScalar
from ulid import ULID

from rayonnage_shared.core.errors import Conflict, NotFound, Overloaded
from rayonnage_shared.database.engine import reading, writing
from rayonnage_shared.database.tables import JobRow
from rayonnage_shared.jobs.rows import as_job, end, expired, with_lines
from rayonnage_shared.jobs.schemas import FINAL_STATUSES, Job, JobStatus
from rayonnage_shared.jobs.transactions import Clock, database_time, lock_queue

NO_SUCH_JOB = "There is no job with this id; GET /train/jobs or `rayonnage jobs list` shows all jobs."

log = structlog.get_logger()


class JobNotFound(NotFound):
    code, title = "job_not_found", "There is no such job"


class JobFinished(Conflict):
    code, title = "job_finished", "The job has already ended"


class QueueFull(Overloaded):
    code, title = "queue_full", "Too many jobs are waiting"


class JobCounts(NamedTuple):
    """How many jobs there are, and how long the oldest queued one has waited."""

    by_kind_and_status: dict[tuple[str, str], int]
    """Without zeros."""
    oldest_waiting_s: float
    """0 when no job is queued."""


class _Pauses(NamedTuple):
    """How long after the newest job the next one is due."""

    usual: timedelta
    after_failure: timedelta


class JobQueue:
    """The jobs of one database."""

    def __init__(self, engine: Engine, clock: Clock = database_time) -> None:
        self._engine = engine
        self._clock = clock

    def submit(
        self,
        kind: str,
        request: dict[str, Any],
        *,
        by: str,
        concurrency_group: str,
        max_queued: int | None = None,
        job_id: str | None = None,
        lines: Sequence[str] = (),
    ) -> Job:
        """Return the new job, whose log starts with `lines`. Jobs of one concurrency group run one at a time.

        With a `job_id` the call is idempotent: if there is a job with this id, it is returned. Raises QueueFull if
        `max_queued` jobs of this kind are waiting.
        """
        with writing(self._engine) as session:
            if job_id is not None:
                lock_queue(session)
                there = session.get(JobRow, job_id)
                if there is not None:
                    return as_job(there)
            if max_queued is not None:
                lock_queue(session)
                waiting = select(func.count()).where(col(JobRow.kind) == kind, col(JobRow.status) == "queued")
                if session.exec(waiting).one() >= max_queued:
                    raise QueueFull(
                        f"{max_queued} jobs are waiting; cancel some or try again later.", headers={"Retry-After": "60"}
                    )
            return self._add(
                session, kind, request, by=by, concurrency_group=concurrency_group, job_id=job_id, lines=lines
            )

    def submit_if_due(
        self,
        kind: str,
        request: dict[str, Any],
        *,
        by: str,
        concurrency_group: str,
        every: timedelta,
        retry_after: timedelta,
        first_from: datetime,
    ) -> Job | None:
        """Queue a job unless one of its kind is queued or running, or was submitted less than `every` ago.

        After a failed job the next one is due `retry_after` later, or `every` if that is shorter. If there has never
        been one, `every` counts from `first_from`. Of concurrent callers, one gets the job and the others None.
        """
        pauses = _Pauses(every, min(every, retry_after))
        with reading(self._engine) as session:  # takes no write lock; nearly always enough
            if not self._is_due(session, kind, pauses, first_from):
                return None
        with writing(self._engine) as session:
            lock_queue(session)
            if not self._is_due(session, kind, pauses, first_from):
                return None
            return self._add(session, kind, request, by=by, concurrency_group=concurrency_group)

    def get(self, job_id: str) -> Job:
        """Return the job. Raises JobNotFound."""
        with reading(self._engine) as session:
            return as_job(_existing(session, _by_id(job_id)))

    def list(
        self, *, kinds: Sequence[str] | None = None, status: JobStatus | None = None, limit: int = 50
    ) -> list[Job]:
        """Return the newest `limit` jobs, newest first."""
        statement = select(JobRow).order_by(col(JobRow.submitted_at).desc(), col(JobRow.job_id).desc()).limit(limit)
        if kinds is not None:
            statement = statement.where(col(JobRow.kind).in_(kinds))
        if status is not None:
            statement = statement.where(col(JobRow.status) == status)
        with reading(self._engine) as session:
            return [as_job(row) for row in session.exec(statement)]

    def counts(self) -> JobCounts:
        """Return how many jobs there are by kind and status, and how long the oldest has waited."""
        counted = select(JobRow.kind, JobRow.status, func.count()).group_by(col(JobRow.kind), col(JobRow.status))
        oldest = select(func.min(JobRow.submitted_at)).where(col(JobRow.status) == "queued")
        with reading(self._engine) as session:
            counts = {(kind, status): count for kind, status, count in session.exec(counted)}
            since = session.exec(oldest).one()
            waited = timedelta() if since is None else max(timedelta(), self._clock(session) - since)
        return JobCounts(counts, waited.total_seconds())

    def request_cancel(self, job_id: str) -> Job:
        """Cancel the job if no worker runs it; otherwise mark it, and its worker cancels it.

        Raises JobNotFound, or JobFinished if it has ended.
        """
        with writing(self._engine) as session:
            row = _existing(session, _by_id(job_id).with_for_update())
            if row.status in FINAL_STATUSES:
                raise JobFinished(_ended(job_id, row.status))
            moment = self._clock(session)
            message = "the cancellation was already requested" if row.cancel_requested else "cancelling"
            row.cancel_requested = True
            if row.status == "queued" or expired(row, moment):
                end(row, "cancelled", moment)
            else:
                row.message = message
            session.add(row)
        return as_job(row)

    def _add(
        self,
        session: Session,
        kind: str,
        request: dict[str, Any],
        *,
        by: str,
        concurrency_group: str,
        job_id: str | None = None,
        lines: Sequence[str] = (),
    ) -> Job:
        row = JobRow(
            job_id=job_id or str(ULID()),
            kind=kind,
            concurrency_group=concurrency_group,
            request=request,
            submitted_by=by,
            submitted_at=self._clock(session),
            log_tail=with_lines([], lines),
        )
        session.add(row)
        log.info("job.queued", job_id=row.job_id, kind=kind, by=by)  # with the request id
        return as_job(row)

    def _is_due(self, session: Session, kind: str, pauses: _Pauses, first_from: datetime) -> bool:
        of_kind = col(JobRow.kind) == kind
        under_way = select(JobRow.job_id).where(of_kind, col(JobRow.status).not_in(FINAL_STATUSES)).limit(1)
        if session.exec(under_way).first() is not None:
            return False
        submitted = col(JobRow.submitted_at)
        newest = select(JobRow.submitted_at, JobRow.status).where(of_kind).order_by(submitted.desc()).limit(1)
        since, status = session.exec(newest).first() or (first_from, None)
        return self._clock(session) >= since + (pauses.after_failure if status == "failed" else pauses.usual)


def _ended(job_id: str, status: str) -> str:
    if status == "cancelled":
        return f"Job {job_id} had already been cancelled."
    return f"Job {job_id} has already ended ({status}), so it cannot be cancelled."


def _by_id(job_id: str) -> SelectOfScalar[JobRow]:
    return select(JobRow).where(col(JobRow.job_id) == job_id)


def _existing(session: Session, statement: SelectOfScalar[JobRow]) -> JobRow:
    row = session.exec(statement).first()
    if row is None:
        raise JobNotFound(NO_SUCH_JOB)
    return row
