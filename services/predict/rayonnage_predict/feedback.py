"""Writes feedback off the event loop, and waits for a prediction whose row is not in the database yet."""

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
from rayonnage_shared.feedback.service import FeedbackService, PredictionUnknown

if TYPE_CHECKING:
    from sqlalchemy import Engine

log = structlog.get_logger()

DATABASE_WAIT_S = 3
THREADS = 4  # its own, since all of them are blocked while the database is unavailable
MAX_WAITING = 64
YOUNG_S = 5.0  # the prediction log writes within a second; the rest allows for clocks of other hosts
WAIT_FOR_PREDICTION_S = 3.0
FIRST_PAUSE_S = 0.1


class FeedbackWriter:
    """Writes feedback in a bounded pool of threads; the database is opened for the first feedback."""

    def __init__(self, database_url: str, service: FeedbackService) -> None:
        self._database_url = database_url
        self._service = service
        self._threads: CapacityLimiter | None = None
        self._opening = threading.Lock()
        self._engine: Engine | None = None

    async def write(self, request: FeedbackRequest, username: str) -> tuple[Feedback, bool]:
        """Write feedback and return it, with whether it is the first about its prediction.

        The row of a new prediction, made by any process, is waited for. Raises UnknownCategory, PredictionUnknown,
        Overloaded, or DependencyDown while the database is unavailable.
        """
        give_up_at = time.monotonic() + WAIT_FOR_PREDICTION_S
        pause_s = FIRST_PAUSE_S
        while True:
            try:
                return await self._in_thread(request, username)
            except PredictionUnknown:
                if not _is_young(request.prediction_id) or time.monotonic() + pause_s > give_up_at:
                    raise
            await asyncio.sleep(pause_s)
            pause_s *= 1.5

    def close(self) -> None:
        """Close the database connections."""
        with self._opening:
            if self._engine is not None:
                self._engine.dispose()
            self._engine = None

    async def _in_thread(self, request: FeedbackRequest, username: str) -> tuple[Feedback, bool]:
        threads = self._threads = self._threads or CapacityLimiter(THREADS)
        if threads.statistics().tasks_waiting >= MAX_WAITING:
            raise Overloaded("The database is slow and the queue is full; try again in a second.")
        return await to_thread.run_sync(self._write, request, username, limiter=threads)

    def _write(self, request: FeedbackRequest, username: str) -> tuple[Feedback, bool]:
        # Imported here, in a thread: importing SQLAlchemy at start would delay the first prediction by a second.
        from sqlalchemy.exc import InterfaceError, OperationalError
        from sqlalchemy.exc import TimeoutError as PoolExhausted

        try:
            return self._service.write(self._open(), request, username)
        except (OperationalError, InterfaceError, PoolExhausted) as error:
            log.warning("feedback.database_unavailable", error=repr(error.__cause__ or error))
            raise DependencyDown("The database is unavailable or too busy; try again in a moment.") from error

    def _open(self) -> Engine:
        from rayonnage_shared.database.engine import migrate, open_database

        with self._opening:
            if self._engine is None:
                engine = open_database(self._database_url, wait_s=DATABASE_WAIT_S)
                migrate(engine)
                self._engine = engine
            return self._engine


def _is_young(prediction_id: str) -> bool:
    return abs(time.time() - ULID.from_str(prediction_id).timestamp) < YOUNG_S
