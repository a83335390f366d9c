"""The queue of long work: a table with leases, so that a job survives its worker and never runs twice at once.

A worker claims a job and gets a lease token. Whoever writes to a running job shows that token; a holder whose job was
given to somebody else gets `LeaseLost` and has written nothing.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime, timedelta
from typing import Any, NamedTuple

import structlog
from sqlalchemy import ColumnElement, Engine, and_, func, or_, text
from sqlalchemy.orm import aliased
from sqlmodel import Session, col, select
from sqlmodel.sql.expression import SelectOfScalar
from ulid import ULID

from rayonnage_shared.core.errors import Conflict, NotFound, Overloaded
from rayonnage_shared.database.engine import reading, writing
from rayonnage_shared.database.tables import JobRow, now
from rayonnage_shared.jobs.rows import (
    MAX_ATTEMPTS,
    MAX_ERROR_CHARACTERS,
    MAX_LINE_CHARACTERS,
    MAX_STAGE_CHARACTERS,
    HeldJob,
    as_job,
    end,
    expired,
    fail_for_good,
    finite,
    held_job,
    hold,
    printable,
    with_lines,
)
from rayonnage_shared.jobs.schemas import FINAL_STATUSES, Job, JobStatus

log = structlog.get_logger()

_QUEUE_LOCK = 7_240_002  # any number but the migrations' own, the same in every process


Clock = Callable[[Session], datetime]


class JobNotFound(NotFound):
    code, title = "job_not_found", "There is no such job"


class JobFinished(Conflict):
    code, title = "job_finished", "The job has already ended"


class LeaseLost(Conflict):
    code, title = "lease_lost", "The job was given to another worker or has ended"


class QueueFull(Overloaded):
    code, title = "queue_full", "Too many jobs are waiting"


def database_time(session: Session) -> datetime:
    """Return the time that leases are measured by: the server's on PostgreSQL, since workers' clocks may differ."""
    if session.get_bind().dialect.name == "postgresql":
        moment: datetime = session.exec(select(func.clock_timestamp())).one()
        return moment
    return now()


class JobCounts(NamedTuple):
    """How many jobs there are, and how long the oldest queued one has waited."""

    by_kind_and_status: dict[tuple[str, str], int]
    """Without zeros."""
    oldest_waiting_s: float
    """0 when no job is queued."""


class JobQueue:
    """The jobs of one database, for services and workers alike."""

    def __init__(self, engine: Engine, clock: Clock = database_time) -> None:
        self._engine = engine
        self._clock = clock

    # What services ask

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
        """Return the new, queued job, whose log begins with `lines`.

        Jobs of one concurrency group never run side by side.

        Whoever brings a `job_id` may submit the job again after a crash: the one that is there is returned then.
        Raises QueueFull.
        """
        with writing(self._engine) as session:
            if job_id is not None:
                _serialise(session)
                there = session.get(JobRow, job_id)
                if there is not None:
                    return as_job(there)
            if max_queued is not None:
                _serialise(session)
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
        first_from: datetime,
    ) -> Job | None:
        """Queue a job unless one of its kind waits or runs, or the newest was submitted less than `every` ago.

        Where there has never been one, `every` counts from `first_from`. Of callers that ask at the same moment, one
        gets the job and the others None.
        """
        with reading(self._engine) as session:  # which is nearly always all
            if not self._is_due(session, kind, every, first_from):
                return None
        with writing(self._engine) as session:
            _serialise(session)
            if not self._is_due(session, kind, every, first_from):
                return None
            return self._add(session, kind, request, by=by, concurrency_group=concurrency_group)

    def get(self, job_id: str) -> Job:
        """Return the job as it stands. Raises JobNotFound."""
        with reading(self._engine) as session:
            return as_job(_existing(session, select(JobRow).where(col(JobRow.job_id) == job_id)))

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
        """Return the job, cancelled where nobody runs it, else with the wish noted for its holder.

        Raises JobNotFound, or JobFinished when it has ended.
        """
        with writing(self._engine) as session:
            statement = select(JobRow).where(col(JobRow.job_id) == job_id).with_for_update()
            row = _existing(session, statement)
            if row.status in FINAL_STATUSES:
                raise JobFinished(f"Job {job_id} has {row.status}; there is nothing left to cancel.")
            moment = self._clock(session)
            row.cancel_requested = True
            if row.status == "queued" or expired(row, moment):
                end(row, "cancelled", moment)
            else:
                row.message = "cancelling"
            session.add(row)
        return as_job(row)

    # What workers do

    def claim(self, kinds: Sequence[str], lease_s: float) -> HeldJob | None:
        """Return the oldest job of these kinds that may run now, held for `lease_s` seconds, or None.

        A running job whose lease ran out counts as waiting. One that was begun MAX_ATTEMPTS times fails here, and one
        that was to be cancelled ends here.
        """
        with reading(self._engine) as session:  # idle workers take no write lock
            if session.exec(self._claimable(session, kinds)).first() is None:
                return None
        with writing(self._engine) as session:
            _serialise(
                session
            )  # two jobs of one concurrency group must not be claimed by two workers in the same moment
            while True:
                row = session.exec(self._claimable(session, kinds).with_for_update(skip_locked=True)).first()
                if row is None:
                    return None
                moment = self._clock(session)
                if row.cancel_requested:
                    end(row, "cancelled", moment)
                elif row.attempts >= MAX_ATTEMPTS:
                    fail_for_good(row, moment)
                else:
                    return hold(row, moment, lease_s)
                session.add(row)
                session.flush()

    def heartbeat(self, held: HeldJob, lease_s: float) -> bool:
        """Hold the job for another `lease_s` seconds and return whether somebody asked to cancel it.

        An expired lease is renewed while no other worker holds the job or its concurrency group. Raises LeaseLost.
        """
        with self._held(held.job_id, held.lease_token) as (session, row):
            moment = self._clock(session)
            if expired(row, moment):
                _serialise(session)
                others = select(JobRow.job_id).where(
                    _leased(JobRow, moment), col(JobRow.concurrency_group) == row.concurrency_group
                )
                if session.exec(others).first() is not None:
                    raise LeaseLost(f"The lease of job {held.job_id} ran out and its concurrency group was given away.")
            row.lease_expires_at = moment + timedelta(seconds=lease_s)
            return row.cancel_requested

    def report(
        self,
        job_id: str,
        lease_token: str,
        *,
        stage: str | None = None,
        progress: float | None = None,
        message: str | None = None,
        lines: Sequence[str] = (),
    ) -> None:
        """Write where the work is; what is None stays, `lines` go to the end of the log tail. Raises LeaseLost."""
        with self._held(job_id, lease_token) as (_, row):
            if stage is not None:
                row.stage = printable(stage, MAX_STAGE_CHARACTERS)
            if progress is not None and math.isfinite(progress):
                row.progress = min(1.0, max(0.0, progress))
            if message is not None:
                row.message = printable(message, MAX_LINE_CHARACTERS)
            if lines:
                row.log_tail = with_lines(row.log_tail, lines)

    def succeed(self, job_id: str, lease_token: str, result: dict[str, Any]) -> None:
        """End the job with its result (JSON; numbers that are not finite become null). Raises LeaseLost."""
        plain = json.loads(json.dumps(finite(result), allow_nan=False))
        with self._held(job_id, lease_token) as (session, row):
            row.result = plain
            row.progress = 1.0
            end(row, "succeeded", self._clock(session))

    def fail(self, job_id: str, lease_token: str, error: str, lines: Sequence[str] = ()) -> None:
        """End the job with an error that says what to do next. Raises LeaseLost."""
        with self._held(job_id, lease_token) as (session, row):
            row.log_tail = with_lines(row.log_tail, lines)
            row.error = printable(error, MAX_ERROR_CHARACTERS)
            end(row, "failed", self._clock(session))

    def cancelled(self, job_id: str, lease_token: str) -> None:
        """End the job because somebody asked for that. Raises LeaseLost."""
        with self._held(job_id, lease_token) as (session, row):
            end(row, "cancelled", self._clock(session))

    def release(self, held: HeldJob, *, reason: str, counts_as_attempt: bool) -> None:
        """Give the job back to run again; after the last attempt it fails with `reason`. Raises LeaseLost."""
        with self._held(held.job_id, held.lease_token) as (session, row):
            row.message = printable(reason, MAX_LINE_CHARACTERS)
            row.log_tail = with_lines(row.log_tail, [reason])
            if not counts_as_attempt:
                row.attempts = max(0, row.attempts - 1)
            if row.cancel_requested:
                end(row, "cancelled", self._clock(session))
            elif row.attempts >= MAX_ATTEMPTS:
                fail_for_good(row, self._clock(session))
            else:
                row.status = "queued"
                row.lease_token = row.lease_expires_at = None

    def held(self, job_id: str, lease_token: str) -> HeldJob:
        """Return the job that this token holds. Raises LeaseLost."""
        with reading(self._engine) as session:
            row = session.exec(_by_token(job_id, lease_token)).first()
        if row is None:
            raise LeaseLost(f"Job {job_id} is not held by this worker any more.")
        return held_job(row, lease_token)

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
        log.info("job.queued", job_id=row.job_id, kind=kind, by=by)  # with the id of the request that wants it
        return as_job(row)

    def _is_due(self, session: Session, kind: str, every: timedelta, first_from: datetime) -> bool:
        of_kind = col(JobRow.kind) == kind
        under_way = select(JobRow.job_id).where(of_kind, col(JobRow.status).not_in(FINAL_STATUSES)).limit(1)
        if session.exec(under_way).first() is not None:
            return False
        submitted = col(JobRow.submitted_at)
        newest = session.exec(select(submitted).where(of_kind).order_by(submitted.desc()).limit(1)).first()
        return self._clock(session) >= (newest or first_from) + every

    @contextmanager
    def _held(self, job_id: str, lease_token: str) -> Iterator[tuple[Session, JobRow]]:
        """Yield the row, locked, and write it back; this is the fence that every holder's write passes."""
        with writing(self._engine) as session:
            row = session.exec(_by_token(job_id, lease_token).with_for_update()).first()
            if row is None:
                raise LeaseLost(f"Job {job_id} is not held by this worker any more.")
            yield session, row
            session.add(row)

    def _claimable(self, session: Session, kinds: Sequence[str]) -> SelectOfScalar[JobRow]:
        moment = self._clock(session)
        other = aliased(JobRow)
        group_is_busy = (
            select(other.job_id)
            .where(other.concurrency_group == JobRow.concurrency_group, _leased(other, moment))
            .exists()
        )
        waiting = or_(
            col(JobRow.status) == "queued",
            and_(col(JobRow.status) == "running", col(JobRow.lease_expires_at) <= moment),
        )
        return (
            select(JobRow)
            .where(col(JobRow.kind).in_(kinds), waiting, ~group_is_busy)
            .order_by(col(JobRow.submitted_at), col(JobRow.job_id))
            .limit(1)
        )


def _serialise(session: Session) -> None:
    """Wait until no other transaction decides about the queue; SQLite's write lock has done so already."""
    if session.get_bind().dialect.name == "postgresql":
        session.connection().execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _QUEUE_LOCK})


def _existing(session: Session, statement: SelectOfScalar[JobRow]) -> JobRow:
    row = session.exec(statement).first()
    if row is None:
        raise JobNotFound("There is no job with this id; GET /train/jobs lists them.")
    return row


def _by_token(job_id: str, lease_token: str) -> SelectOfScalar[JobRow]:
    return select(JobRow).where(
        col(JobRow.job_id) == job_id, col(JobRow.lease_token) == lease_token, col(JobRow.status) == "running"
    )


def _leased(row: type[JobRow], moment: datetime) -> ColumnElement[bool]:
    return and_(col(row.status) == "running", col(row.lease_expires_at) > moment)
