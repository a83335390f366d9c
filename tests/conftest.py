"""Fixtures for every test."""

from __future__ import annotations

import os
import uuid
from collections.abc import Iterator
from pathlib import Path

import hypothesis
import pytest
from sqlalchemy import Engine, create_engine, text

from rayonnage_shared.database.engine import migrate, open_database
from tests.system.postgresql import postgresql_cluster

# Set before NumPy is loaded: where two test processes share two cores, BLAS threads that wait for each other double
# the cost.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")

# The same examples every time, and no limit on how long one may take: a slow machine is no fault.
hypothesis.settings.register_profile(
    "rayonnage", derandomize=True, deadline=None, suppress_health_check=[hypothesis.HealthCheck.too_slow]
)
hypothesis.settings.load_profile("rayonnage")


@pytest.fixture(scope="session")
def postgresql() -> Iterator[str]:
    """The address of a throw-away PostgreSQL; fails where it is not installed."""
    with postgresql_cluster() as address:
        yield address


@pytest.fixture(params=["sqlite", pytest.param("postgresql", marks=pytest.mark.system)])
def database_url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """The address of an empty database: SQLite always, PostgreSQL among the system tests."""
    if request.param == "sqlite":
        yield f"sqlite:///{tmp_path}/rayonnage.db"
        return
    address: str = request.getfixturevalue("postgresql")
    server = create_engine(address, isolation_level="AUTOCOMMIT")
    name = f"test_{uuid.uuid4().hex}"
    with server.connect() as connection:
        connection.execute(text(f"CREATE DATABASE {name}"))
        yield f"{address.rpartition('/')[0]}/{name}"
        connection.execute(text(f"DROP DATABASE {name} WITH (FORCE)"))
    server.dispose()


@pytest.fixture
def engine(database_url: str) -> Iterator[Engine]:
    """An open database with all tables."""
    opened = open_database(database_url)
    migrate(opened)
    yield opened
    opened.dispose()
