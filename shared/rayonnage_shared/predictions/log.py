"""The log of predictions: each answer becomes a row of the database, and no answer ever waits for that.

`note` puts a tuple into a bounded buffer; one thread writes what is there twice a second. So a crash loses a second at
most and a stop nothing. While the database is away the rows wait, and when they become too many the oldest go.
"""

from __future__ import annotations

import hashlib
import threading
import time
from collections import deque
from typing import TYPE_CHECKING

import structlog
from prometheus_client import Counter, Gauge

from rayonnage_shared.predictions.record import LoggedPrediction
from rayonnage_shared.predictions.schemas import Prediction, ProductFields

if TYPE_CHECKING:
    from sqlalchemy import Engine

log = structlog.get_logger()

FLUSH_EVERY_S = 0.5  # half of the second that a crash may cost; the other half is for the write itself
BATCH_ROWS = 500  # SQLite's write lock is held for about 15 ms by as many
RETRY_EVERY_S = 1.0
DATABASE_WAIT_S = 3  # for a connection or a lock; less than STOP_WITHIN_S
STOP_WITHIN_S = 5.0
REMOVAL_EVERY_S = 600.0
MAX_WAITING_CHARACTERS = 16_000_000  # of texts in the buffer: 16 MB, or 64 where all of them hold emoji
DAY_S = 24 * 60 * 60
KEEP_FEEDBACK_DAYS: float = 365

WRITTEN = Counter("rayonnage_prediction_log_written", "Predictions written to the database.")
DROPPED = Counter("rayonnage_prediction_log_dropped", "Predictions that no row was written of.")
WAITING = Gauge("rayonnage_prediction_log_waiting", "Predictions that wait for being written.")


class WaitingRows:
    """A queue that never grows beyond its bounds: what is too much goes, the oldest first. Thread-safe."""

    def __init__(self, max_rows: int, max_characters: int = MAX_WAITING_CHARACTERS) -> None:
        self._max_rows = max_rows
        self._max_characters = max_characters
        self._rows: deque[LoggedPrediction] = deque()
        self._characters = 0
        self.dropped = 0
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return len(self._rows)

    def add(self, row: LoggedPrediction) -> int:
        """Add the newest row and return how many the queue holds."""
        with self._lock:
            self._rows.append(row)
            self._characters += row.characters
            if len(self._rows) > self._max_rows or self._characters > self._max_characters:
                self._drop_oldest()
            return len(self._rows)

    def take(self, count: int) -> list[LoggedPrediction]:
        """Take away and return the `count` oldest rows, or as many as there are."""
        with self._lock:
            taken = [self._rows.popleft() for _ in range(min(count, len(self._rows)))]
            self._characters -= sum(row.characters for row in taken)
            return taken

    def put_back(self, rows: list[LoggedPrediction]) -> None:
        """Let rows that were taken wait again, before all others."""
        with self._lock:
            self._rows.extendleft(reversed(rows))
            self._characters += sum(row.characters for row in rows)
            self._drop_oldest()

    def _drop_oldest(self) -> None:
        while len(self._rows) > self._max_rows or self._characters > self._max_characters:
            self._characters -= self._rows.popleft().characters
            self.dropped += 1
            DROPPED.inc()


class PredictionLog:
    """Writes predictions from `start` to `stop`; the database may be away at any time, even from the beginning."""

    def __init__(
        self,
        database_url: str,
        *,
        max_waiting: int,
        keep_days: float,
        keep_feedback_days: float = KEEP_FEEDBACK_DAYS,
        keep_texts: bool = True,
        flush_every_s: float = FLUSH_EVERY_S,
    ) -> None:
        self._database_url = database_url
        self._keep_days = keep_days
        self._keep_feedback_days = keep_feedback_days
        self._keep_texts = keep_texts
        self._flush_every_s = flush_every_s
        self._waiting = WaitingRows(max_waiting)
        self._full_batch = threading.Event()
        self._stopping = threading.Event()
        self._give_up_at = float("inf")
        self._thread: threading.Thread | None = None
        self._engine: Engine | None = None
        self._in_flight = 0
        self._dropped_and_told = 0
        self._trouble: str | None = None
        self._next_removal = 0.0

    def note(
        self, prediction: Prediction, product: ProductFields, photo: bytes | None, *, username: str, request_id: str
    ) -> None:
        """Have an answer written soon; never waits. Takes 3 µs, and 0.1 ms more for the sha256 of a 44 kB photo."""
        text, image = prediction.modalities.text, prediction.modalities.image
        row = LoggedPrediction(
            prediction.prediction_id,
            time.time(),
            prediction.model.version,
            username,
            request_id,
            product.designation if self._keep_texts else None,
            product.description if self._keep_texts else None,
            product.product_identifier,
            photo is not None,
            None if photo is None else hashlib.sha256(photo).hexdigest(),
            prediction.category_id,
            prediction.confidence,
            prediction.decision,
            text.category_id,
            text.probability,
            image.category_id,
            image.probability,
            prediction.duration_ms,
        )
        if self._waiting.add(row) == BATCH_ROWS:
            self._full_batch.set()

    def start(self) -> None:
        """Begin to write: bring the tables up to date, then write whatever waits."""
        self._thread = threading.Thread(target=self._work, name="prediction-log", daemon=True)
        self._thread.start()

    def stop(self, within_s: float = STOP_WITHIN_S) -> None:
        """Write what waits and end; rows that the database does not take within `within_s` seconds are given up."""
        self._give_up_at = time.monotonic() + within_s
        self._stopping.set()
        self._full_batch.set()
        if self._thread is not None:
            self._thread.join(within_s)
        if lost := len(self._waiting) + self._in_flight:
            DROPPED.inc(lost)
            log.warning("prediction_log.given_up", rows=lost, error=self._trouble)

    async def why_not_writing(self) -> str | None:
        """Return None while rows get to the database, else what is wrong; predictions go on either way."""
        return self._trouble

    def _work(self) -> None:
        """Write twice a second until told to stop, then until nothing waits."""
        while True:
            written = self._flush()
            if not self._stopping.is_set():
                self._full_batch.wait(self._flush_every_s if written else RETRY_EVERY_S)
                self._full_batch.clear()
            elif not self._waiting or time.monotonic() > self._give_up_at:
                break
            elif not written:
                time.sleep(self._flush_every_s)
        self._close()

    def _flush(self) -> bool:
        """Write all that waits; return whether the database took it. Predictions go on, whatever it does."""
        from sqlalchemy.exc import SQLAlchemyError

        WAITING.set(len(self._waiting))
        try:
            engine = self._engine or self._open()
            self._write(engine)
            self._remove_old(engine)
        except (SQLAlchemyError, OSError) as error:
            if self._trouble is None:
                reason = getattr(error, "orig", None) or error  # the whole error would show what was being written
                log.warning("prediction_log.database_away", error=str(reason), waiting=len(self._waiting))
            self._note_trouble(error)
            return False
        except Exception as error:
            if self._trouble is None:
                log.exception("prediction_log.failed")
            self._note_trouble(error)
            return False
        self._note_success()
        return True

    def _open(self) -> Engine:
        # Imported here, by the writer's thread: predict is ready to answer a second before it is ready to write.
        from rayonnage_shared.database.engine import migrate, open_database

        self._engine = open_database(self._database_url, wait_s=DATABASE_WAIT_S)
        migrate(self._engine)
        return self._engine

    def _close(self) -> None:
        if self._engine is not None:
            self._engine.dispose()
        self._engine = None

    def _write(self, engine: Engine) -> None:
        from rayonnage_shared.predictions.repository import insert_predictions

        while rows := self._waiting.take(BATCH_ROWS):
            self._in_flight = len(rows)
            try:
                refused = insert_predictions(engine, rows)
            except BaseException:
                self._waiting.put_back(rows)
                raise
            finally:
                self._in_flight = 0
            WRITTEN.inc(len(rows) - refused)
            if refused:
                DROPPED.inc(refused)
                log.warning("prediction_log.refused", rows=refused, note="the database does not take their values")
            WAITING.set(len(self._waiting))

    def _remove_old(self, engine: Engine) -> None:
        """Remove some of what is too old, now and then; while there is more, with every flush."""
        from rayonnage_shared.predictions.repository import REMOVED_AT_ONCE, remove_predictions

        if time.monotonic() < self._next_removal:
            return
        now = time.time()
        removed = remove_predictions(
            engine, before=now - self._keep_days * DAY_S, feedback_before=now - self._keep_feedback_days * DAY_S
        )
        self._next_removal = 0.0 if removed == REMOVED_AT_ONCE else time.monotonic() + REMOVAL_EVERY_S
        if removed:
            log.info("prediction_log.removed", rows=removed, older_than_days=self._keep_days)

    def _note_trouble(self, error: Exception) -> None:
        self._trouble = f"predictions are not written to the database ({type(error).__name__})"
        self._close()  # the next try opens it anew, tables included: it may be another database by then

    def _note_success(self) -> None:
        dropped = self._waiting.dropped - self._dropped_and_told
        if self._trouble is not None:
            log.info("prediction_log.database_back", dropped=dropped)
        elif dropped:
            log.warning("prediction_log.too_slow", dropped=dropped)
        self._dropped_and_told += dropped
        self._trouble = None
