"""The clock of the table of jobs."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from sqlalchemy import Engine
from sqlmodel import Session

from rayonnage_shared.jobs.transactions import database_time


def test_leases_are_measured_by_a_clock_in_utc(engine: Engine) -> None:
    with Session(engine) as session:
        assert abs(database_time(session) - datetime.now(UTC)) < timedelta(seconds=60)
