"""What all transactions on the table of jobs share: the clock, and the lock of those that decide about the queue."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime

from sqlalchemy import func, text
from sqlmodel import Session, select

from rayonnage_shared.database.tables import now

_QUEUE_LOCK = 7_240_002  # any number except that of the migrations, the same in every process

Clock = Callable[[Session], datetime]


def database_time(session: Session) -> datetime:
    """Return the present time; on PostgreSQL the server's, since the clocks of workers may differ."""
    if session.get_bind().dialect.name == "postgresql":
        moment: datetime = session.exec(select(func.clock_timestamp())).one()
        return moment
    return now()


def lock_queue(session: Session) -> None:
    """Wait until no other transaction decides about the queue. SQLite's write lock does that already."""
    if session.get_bind().dialect.name == "postgresql":
        session.connection().execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": _QUEUE_LOCK})
