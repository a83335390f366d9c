"""The database of one command."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from sqlalchemy import Engine

from rayonnage_shared.core.settings import DatabaseSettings


@contextmanager
def command_database(settings: DatabaseSettings) -> Iterator[Engine]:
    """Yield the migrated database; close its connections at the end."""
    from rayonnage_shared.database.engine import migrate, open_database

    engine = open_database(settings.database_url)
    try:
        migrate(engine)
        yield engine
    finally:
        engine.dispose()
