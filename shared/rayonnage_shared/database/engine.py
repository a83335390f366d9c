"""Opens the database and brings its tables up to date; SQLite and PostgreSQL behave alike from here on."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from sqlalchemy import Engine, event, make_url, text
from sqlmodel import Session, create_engine

LOCK_TIMEOUT_S = 10
MIGRATION_LOCK = 7_240_001  # any number, the same in every process


def open_database(url: str) -> Engine:
    """Return an engine for `url`; SQLite gets write-ahead logging, foreign keys and a bounded wait for its lock.

    `postgresql://` and `postgres://` mean the driver that is installed, psycopg.
    """
    address = make_url(url)
    if address.drivername in ("postgresql", "postgres"):
        address = address.set(drivername="postgresql+psycopg")
    if address.get_backend_name() != "sqlite":
        return create_engine(address, pool_pre_ping=True, pool_timeout=LOCK_TIMEOUT_S)
    if address.database:
        Path(address.database).parent.mkdir(parents=True, exist_ok=True)
    engine = create_engine(address, connect_args={"timeout": LOCK_TIMEOUT_S})
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
    """Bring the tables up to date; safe to call from several processes at once."""
    from alembic import command  # 0.4 s that a process which never migrates does not spend
    from alembic.config import Config

    configuration = Config()
    configuration.set_main_option("script_location", str(Path(__file__).parent / "migrations"))
    with engine.begin() as connection:
        if engine.dialect.name == "postgresql":
            connection.execute(text("SELECT pg_advisory_xact_lock(:key)"), {"key": MIGRATION_LOCK})
        else:
            connection.exec_driver_sql("BEGIN IMMEDIATE")
        configuration.attributes["connection"] = connection
        command.upgrade(configuration, "head")
