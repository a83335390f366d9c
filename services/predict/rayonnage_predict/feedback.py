"""Takes the truth about predictions; one that was answered a moment ago may still be on its way to the database."""

from __future__ import annotations

import asyncio
import threading
import time
from typing import TYPE_CHECKING

import structlog
from anyio import CapacityLimiter, to_thread
from ulid import ULID

from rayonnage_shared.core.errors import DependencyDown, Overloaded
from rayonnage_shared.feedback.schemas import Feedback, FeedbackRequest
from rayonnage_shared.feedback.service import FeedbackBook, PredictionUnknown

if TYPE_CHECKING:
    from sqlalchemy import Engine

log = structlog.get_logger()

DATABASE_WAIT_S = 3
THREADS = 4  # of its own: while the database is away they all wait, and nothing else may
MAX_WAITING = 64
YOUNG_S = 5.0  # the log of predictions writes within a second; the rest is for clocks of other hosts
WAIT_FOR_PREDICTION_S = 3.0
FIRST_PAUSE_S = 0.1


class FeedbackDesk:
    """Writes down what users say; the database is opened when somebody says something for the first time."""

    def __init__(self, database_url: str, book: FeedbackBook) -> None:
        self._database_url = database_url
        self._book = book
        self._threads: CapacityLimiter | None = None
        self._opening = threading.Lock()
        self._engine: Engine | None = None

    async def take(self, said: FeedbackRequest, username: str) -> tuple[Feedback, bool]:
        """Write down what was said, and return it with whether it is the first word about this prediction.

        A prediction that was made a moment ago, by whichever process, is waited for. Raises UnknownCategory,
        PredictionUnknown, Overloaded, or DependencyDown while the database is away.
        """
        give_up_at = time.monotonic() + WAIT_FOR_PREDICTION_S
        pause_s = FIRST_PAUSE_S
        while True:
            try:
                return await self._in_thread(said, username)
            except PredictionUnknown:
                if not _is_young(said.prediction_id) or time.monotonic() + pause_s > give_up_at:
                    raise
            await asyncio.sleep(pause_s)
            pause_s *= 1.5

    def close(self) -> None:
        """Give the connections back."""
        with self._opening:
            if self._engine is not None:
                self._engine.dispose()
            self._engine = None

    async def _in_thread(self, said: FeedbackRequest, username: str) -> tuple[Feedback, bool]:
        threads = self._threads = self._threads or CapacityLimiter(THREADS)
        if threads.statistics().tasks_waiting >= MAX_WAITING:
            raise Overloaded("The database is slow and others wait for it; try again in a second.")
        return await to_thread.run_sync(self._write, said, username, limiter=threads)

    def _write(self, said: FeedbackRequest, username: str) -> tuple[Feedback, bool]:
        # Imported here, in a thread: predict is ready to answer a second before SQLAlchemy is.
        from sqlalchemy.exc import InterfaceError, OperationalError
        from sqlalchemy.exc import TimeoutError as PoolExhausted

        try:
            return self._book.write(self._opened(), said, username)
        except (OperationalError, InterfaceError, PoolExhausted) as error:
            log.warning("feedback.database_away", error=repr(error.__cause__ or error))
            raise DependencyDown("The database is away or too busy; try again in a moment.") from error

    def _opened(self) -> Engine:
        from rayonnage_shared.database.engine import migrate, open_database

        with self._opening:
            if self._engine is None:
                engine = open_database(self._database_url, wait_s=DATABASE_WAIT_S)
                migrate(engine)
                self._engine = engine
            return self._engine


def _is_young(prediction_id: str) -> bool:
    return abs(time.time() - ULID.from_str(prediction_id).timestamp) < YOUNG_S
