"""The queue of jobs as workers see it: each job is held by a lease, so it survives its worker and never runs twice.

A claimed job has a lease token. Every write to a running job presents it: a worker whose job was given to another one
gets LeaseLost and has written nothing.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import ColumnElement, Engine, and_, or_
from sqlalchemy.orm import aliased
from sqlmodel import Session, col, select
from sqlmodel.sql.expression import SelectOfScalar

from rayonnage_shared.core.errors import Conflict
from rayonnage_shared.database.engine import reading, writing
from rayonnage_shared.database.tables import JobRow
from rayonnage_shared.jobs.rows import (
    MAX_ATTEMPTS,
    MAX_ERROR_CHARACTERS,
    MAX_LINE_CHARACTERS,
    MAX_STAGE_CHARACTERS,
    HeldJob,
    end,
    expired,
    fail_for_good,
    finite,
    held_job,
    hold,
    printable,
    with_lines,
)
from rayonnage_shared.jobs.transactions import Clock, database_time, lock_queue


class LeaseLost(Conflict):
    code, title = "lease_lost", "The job was given to another worker or has ended"


class JobLeases:
    """Claims jobs of one database, and writes to those that are held."""

    def __init__(self, engine: Engine, clock: Clock = database_time) -> None:
        self._engine = engine
        self._clock = clock

    def claim(self, kinds: Sequence[str], lease_s: float) -> HeldJob | None:
        """Return the oldest job of these kinds that may run now, held for `lease_s` seconds, or None.

        A running job whose lease has expired may run again, unless it has had MAX_ATTEMPTS or was to be cancelled: then
        it ends here.
        """
        with reading(self._engine) as session:  # idle workers take no write lock
            if session.exec(self._claimable(session, kinds)).first() is None:
                return None
        with writing(self._engine) as session:
            lock_queue(session)  # two workers must not claim jobs of one concurrency group at the same moment
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
        """Extend the lease to `lease_s` seconds from now, and return whether the job is to be cancelled.

        An expired lease is renewed while no other worker holds the job or its concurrency group. Raises LeaseLost.
        """
        with self._held(held) as (session, row):
            moment = self._clock(session)
            if expired(row, moment):
                lock_queue(session)
                others = select(JobRow.job_id).where(
                    _leased(JobRow, moment), col(JobRow.concurrency_group) == row.concurrency_group
                )
                if session.exec(others).first() is not None:
                    raise LeaseLost(f"The lease of job {held.job_id} has expired, and another job of its group runs.")
            row.lease_expires_at = moment + timedelta(seconds=lease_s)
            return row.cancel_requested

    def report(
        self,
        held: HeldJob,
        *,
        stage: str | None = None,
        progress: float | None = None,
        message: str | None = None,
        lines: Sequence[str] = (),
    ) -> None:
        """Update what is not None, and append `lines` to the log tail. Raises LeaseLost.

        `progress` counts the whole job from 0 to 1 and never decreases, not even when a later attempt begins anew.
        """
        with self._held(held) as (_, row):
            if stage is not None:
                row.stage = printable(stage, MAX_STAGE_CHARACTERS)
            if progress is not None and math.isfinite(progress):
                row.progress = max(row.progress, min(1.0, progress))
            if message is not None:
                row.message = printable(message, MAX_LINE_CHARACTERS)
            if lines:
                row.log_tail = with_lines(row.log_tail, lines)

    def succeed(self, held: HeldJob, result: dict[str, Any]) -> None:
        """End the job with its result (JSON; numbers that are not finite become null). Raises LeaseLost."""
        plain = json.loads(json.dumps(finite(result), allow_nan=False))
        with self._held(held) as (session, row):
            row.result = plain
            row.progress = 1.0
            end(row, "succeeded", self._clock(session))

    def fail(self, held: HeldJob, error: str, lines: Sequence[str] = ()) -> None:
        """End the job with an error that says what to do next. Raises LeaseLost."""
        with self._held(held) as (session, row):
            row.log_tail = with_lines(row.log_tail, lines)
            row.error = printable(error, MAX_ERROR_CHARACTERS)
            end(row, "failed", self._clock(session))

    def cancel(self, held: HeldJob) -> None:
        """End the job because its cancellation was requested. Raises LeaseLost."""
        with self._held(held) as (session, row):
            end(row, "cancelled", self._clock(session))

    def release(self, held: HeldJob, *, reason: str, counts_as_attempt: bool) -> None:
        """Give the job back to be run again; after its last attempt it fails with `reason`. Raises LeaseLost."""
        with self._held(held) as (session, row):
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
            return held_job(_existing(session, _by_token(job_id, lease_token)), lease_token)

    @contextmanager
    def _held(self, held: HeldJob) -> Iterator[tuple[Session, JobRow]]:
        """Yield the row, locked, and write it back. Every write to a held job passes here."""
        with writing(self._engine) as session:
            row = _existing(session, _by_token(held.job_id, held.lease_token).with_for_update())
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


def _existing(session: Session, statement: SelectOfScalar[JobRow]) -> JobRow:
    row = session.exec(statement).first()
    if row is None:
        raise LeaseLost("This worker does not hold the job any more.")
    return row


def _by_token(job_id: str, lease_token: str) -> SelectOfScalar[JobRow]:
    return select(JobRow).where(
        col(JobRow.job_id) == job_id, col(JobRow.lease_token) == lease_token, col(JobRow.status) == "running"
    )


def _leased(row: type[JobRow], moment: datetime) -> ColumnElement[bool]:
    return and_(col(row.status) == "running", col(row.lease_expires_at) > moment)
