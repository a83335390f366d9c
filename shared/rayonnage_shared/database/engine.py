"""Open and migrate the database. Callers see no difference between SQLite and PostgreSQL."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sqlalchemy import Engine, event, inspect, make_url, text
from sqlalchemy.exc import DBAPIError, InterfaceError, OperationalError
from sqlmodel import Session, create_engine

from rayonnage_shared.core.errors import InvalidSetting
from rayonnage_shared.core.settings import DATABASE_URLS

LOCK_TIMEOUT_S = 10
MIGRATIONS = Path(__file__).parent / "migrations"
_MIGRATING = threading.Lock()  # alembic keeps its state in globals
MIGRATION_LOCK = 7_240_001  # any number, the same in every process


def open_database(url: str, *, wait_s: int = LOCK_TIMEOUT_S) -> Engine:
    """Return an engine for `url` that waits at most `wait_s` seconds for a connection or for SQLite's lock.

    SQLite gets write-ahead logging and foreign keys. `postgresql://` and `postgres://` use psycopg. Raises
    InvalidSetting for a port that is no number.
    """
    try:
        address = make_url(url)
    except ValueError:  # from a port that is no number; its message could show a part of the password
        raise InvalidSetting(f"`DATABASE_URL` must be {DATABASE_URLS}.") from None
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
    """Yield a session for reads and writes; commits at the end, rolls back on an error.

    SQLite takes its write lock at once (`BEGIN IMMEDIATE`), so no other writer comes between a read and a write. On
    PostgreSQL the caller locks rows with `FOR UPDATE`.
    """
    with Session(engine, expire_on_commit=False) as session:
        if engine.dialect.name == "sqlite":
            # The driver sends BEGIN only before the first write; this takes the lock before the first read.
            session.connection().exec_driver_sql("BEGIN IMMEDIATE")
        yield session
        session.commit()


@contextmanager
def reading(engine: Engine) -> Iterator[Session]:
    """Yield a session for reads; it never commits."""
    with Session(engine, expire_on_commit=False) as session:
        yield session


def migrate(engine: Engine) -> None:
    """Run pending migrations. Safe to call from several processes and threads at once."""
    if _is_up_to_date(engine):
        return
    from alembic import (
        command,
    )  # alembic costs 0.4 s and 10 MB, so it is imported only when there is something to migrate
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
    """Return whether the database is at the latest revision. Migration files begin with their revision."""
    newest = max(path.name.partition("_")[0] for path in (MIGRATIONS / "versions").glob("*.py"))
    with engine.connect() as connection:
        if not inspect(connection).has_table("alembic_version"):
            return False
        return connection.execute(text("SELECT version_num FROM alembic_version")).scalars().all() == [newest]


DATABASE_AWAY = (OperationalError, InterfaceError)
"""Errors of a database that is down, restarting or locked; job holders wait and retry."""

_SQLITE_FULL, _SQLITE_IOERR_SHMSIZE = 13, 4874
_POSTGRESQL_DISK_FULL = "53100"


def is_database_full(error: DBAPIError) -> bool:
    """Return whether a statement failed because the database's disk is full."""
    origin = error.orig
    full = getattr(origin, "sqlite_errorcode", None) in (_SQLITE_FULL, _SQLITE_IOERR_SHMSIZE)
    return full or getattr(origin, "sqlstate", None) == _POSTGRESQL_DISK_FULL


def database_folder(url: str) -> Path | None:
    """Return the folder of an SQLite database; None for any other."""
    address = make_url(url)
    if address.get_backend_name() != "sqlite" or not address.database:
        return None
    return Path(address.database).parent
