"""Opens the database and brings its tables up to date; SQLite and PostgreSQL behave alike from here on."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sqlalchemy import Engine, event, inspect, make_url, text
from sqlalchemy.exc import InterfaceError, OperationalError
from sqlmodel import Session, create_engine

LOCK_TIMEOUT_S = 10
MIGRATIONS = Path(__file__).parent / "migrations"
_MIGRATING = threading.Lock()  # alembic keeps what it works on in globals
MIGRATION_LOCK = 7_240_001  # any number, the same in every process


def open_database(url: str, *, wait_s: int = LOCK_TIMEOUT_S) -> Engine:
    """Return an engine for `url` that waits `wait_s` seconds at most for a connection, or for SQLite's lock.

    SQLite gets write-ahead logging and foreign keys. `postgresql://` and `postgres://` mean the driver that is
    installed, psycopg.
    """
    address = make_url(url)
    if address.drivername in ("postgresql", "postgres"):
        address = address.set(drivername="postgresql+psycopg")
    if address.get_backend_name() != "sqlite":
        return create_engine(address, pool_pre_ping=True, pool_timeout=wait_s, connect_args={"connect_timeout": wait_s})
    if address.database:
        Path(address.database).parent.mkdir(parents=True, exist_ok=True)
    engine = create_engine(address, connect_args={"timeout": wait_s})
    event.listen(engine, "connect", _prepare_sqlite)
    return engine


def _prepare_sqlite(connection: Any, _record: Any) -> None:
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA synchronous = NORMAL")
    connection.execute("PRAGMA foreign_keys = ON")


@contextmanager
def writing(engine: Engine) -> Iterator[Session]:
    """Yield a session whose reads already hold what its writes need; commits at the end, rolls back on an error.

    SQLite takes its write lock at once (`BEGIN IMMEDIATE`), so that a read followed by a write can never be
    overtaken; on PostgreSQL the caller locks rows with `FOR UPDATE`.
    """
    with Session(engine, expire_on_commit=False) as session:
        if engine.dialect.name == "sqlite":
            # Driver-level BEGIN is only sent before the first write; taking the lock here closes that gap.
            session.connection().exec_driver_sql("BEGIN IMMEDIATE")
        yield session
        session.commit()


@contextmanager
def reading(engine: Engine) -> Iterator[Session]:
    """Yield a session for reads; nothing is committed."""
    with Session(engine, expire_on_commit=False) as session:
        yield session


def migrate(engine: Engine) -> None:
    """Bring the tables up to date; safe to call from several processes and threads at once."""
    if _is_up_to_date(engine):
        return
    from alembic import command  # 0.4 s and 10 MB that a process which has nothing to migrate does not spend
    from alembic.config import Config

    configuration = Config()
    configuration.set_main_option("script_location", str(MIGRATIONS))
    with _MIGRATING, engine.begin() as connection:
        if engine.dialect.name == "postgresql":
            connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": MIGRATION_LOCK})
        else:
            connection.exec_driver_sql("BEGIN IMMEDIATE")
        configuration.attributes["connection"] = connection
        command.upgrade(configuration, "head")


def _is_up_to_date(engine: Engine) -> bool:
    """Return whether the last migration has been run; each file in `versions` begins with its revision."""
    newest = max(path.name.partition("_")[0] for path in (MIGRATIONS / "versions").glob("*.py"))
    with engine.connect() as connection:
        if not inspect(connection).has_table("alembic_version"):
            return False
        return connection.execute(text("SELECT version_num FROM alembic_version")).scalars().all() == [newest]


DATABASE_AWAY = (OperationalError, InterfaceError)
"""What a holder of a job waits out: the database is down, restarting or locked."""
