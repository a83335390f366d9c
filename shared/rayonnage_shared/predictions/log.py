"""The prediction log: each prediction becomes a row of the database, and no prediction waits for that.

`add` appends to a bounded buffer, which a thread writes twice a second. A crash loses at most a second of predictions,
a stop none. While the database is unavailable rows wait in the buffer; when it is full the oldest are dropped.
"""

from __future__ import annotations

import contextlib
import hashlib
import threading
import time
from typing import TYPE_CHECKING

import structlog
from prometheus_client import Counter, Gauge

from rayonnage_shared.predictions.record import LoggedPrediction
from rayonnage_shared.predictions.row_buffer import DROPPED, RowBuffer
from rayonnage_shared.predictions.schemas import PredictionDocument, ProductFields

if TYPE_CHECKING:
    from sqlalchemy import Engine

log = structlog.get_logger()

FLUSH_EVERY_S = 0.5  # half of the second that a crash may cost; the other half is for the write itself
BATCH_ROWS = 500  # SQLite's write lock is held for about 15 ms by as many
RETRY_EVERY_S = 1.0
DATABASE_WAIT_S = 3  # for a connection or a lock; less than STOP_WITHIN_S
STOP_WITHIN_S = 5.0
REMOVAL_EVERY_S = 600.0
DAY_S = 24 * 60 * 60
KEEP_FEEDBACK_DAYS: float = 365

WRITTEN = Counter("rayonnage_prediction_log_written", "Predictions written to the database.")
WAITING = Gauge("rayonnage_prediction_log_waiting", "Predictions in memory that are not written yet.")


class PredictionLog:
    """Writes predictions from `start` to `stop`; the database may be unavailable at any time, also at the start."""

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
        self._buffer = RowBuffer(max_waiting)
        self._full_batch = threading.Event()
        self._stopping = threading.Event()
        self._stop_at = float("inf")
        self._thread: threading.Thread | None = None
        self._engine: Engine | None = None
        self._in_flight = 0
        self._reported_drops = 0
        self._failure: str | None = None
        self._next_removal = 0.0

    def add(
        self,
        prediction: PredictionDocument,
        product: ProductFields,
        photo: bytes | None,
        *,
        username: str,
        request_id: str,
    ) -> None:
        """Have a prediction written soon. Takes 2 µs, and 0.1 ms more for the sha256 of a 44 kB photo."""
        text, image = prediction["modalities"]["text"], prediction["modalities"]["image"]
        row = LoggedPrediction(
            prediction["prediction_id"],
            time.time(),
            prediction["model"]["version"],
            username,
            request_id,
            product.designation if self._keep_texts else None,
            product.description if self._keep_texts else None,
            product.product_identifier,
            photo is not None,
            None if photo is None else hashlib.sha256(photo).hexdigest(),
            prediction["category_id"],
            prediction["confidence"],
            prediction["decision"],
            text["category_id"],
            text["probability"],
            image["category_id"],
            image["probability"],
            prediction["duration_ms"],
        )
        if self._buffer.add(row) == BATCH_ROWS:
            self._full_batch.set()

    def start(self) -> None:
        """Start the thread, which migrates the database and writes the buffer."""
        self._thread = threading.Thread(target=self._work, name="prediction-log", daemon=True)
        self._thread.start()

    def stop(self, within_s: float = STOP_WITHIN_S) -> None:
        """Write the buffer and stop; rows that are not written within `within_s` seconds are dropped."""
        self._stop_at = time.monotonic() + within_s
        self._stopping.set()
        self._full_batch.set()
        if self._thread is not None:
            self._thread.join(within_s)
        if lost := len(self._buffer) + self._in_flight:
            DROPPED.inc(lost)
            log.warning("prediction_log.rows_dropped", rows=lost, reason=self._failure or "stopped")

    async def why_not_writing(self) -> str | None:
        """Return None while rows are written, else the reason; predictions are answered either way."""
        return self._failure

    def _work(self) -> None:
        """Write twice a second until stopped, then until the buffer is empty."""
        while True:
            written = self._flush()
            if not self._stopping.is_set():
                self._full_batch.wait(self._flush_every_s if written else RETRY_EVERY_S)
                self._full_batch.clear()
            elif not self._buffer or time.monotonic() > self._stop_at:
                break
            elif not written:
                time.sleep(self._flush_every_s)
        self._close()

    def _flush(self) -> bool:
        """Write the buffer and return whether that succeeded. Never raises, since nothing else would write again."""
        try:
            WAITING.set(len(self._buffer))
            engine = self._engine or self._open()
            self._write(engine)
            self._remove_old(engine)
        except Exception as error:  # noqa: BLE001
            self._note_failure(error)
            return False
        self._note_success()
        return True

    def _open(self) -> Engine:
        # Imported here, in the thread: importing SQLAlchemy at start would delay the first prediction by a second.
        from rayonnage_shared.database.engine import migrate, open_database

        self._engine = open_database(self._database_url, wait_s=DATABASE_WAIT_S)
        migrate(self._engine)
        return self._engine

    def _close(self) -> None:
        engine, self._engine = self._engine, None
        if engine is not None:
            engine.dispose()

    def _write(self, engine: Engine) -> None:
        from rayonnage_shared.predictions.repository import insert_predictions

        while rows := self._buffer.take(BATCH_ROWS):
            self._in_flight = len(rows)
            try:
                refused = insert_predictions(engine, rows)
            except BaseException:
                self._buffer.put_back(rows)
                raise
            finally:
                self._in_flight = 0
            WRITTEN.inc(len(rows) - refused)
            if refused:
                DROPPED.inc(refused)
                log.warning("prediction_log.rows_refused", rows=refused)
            WAITING.set(len(self._buffer))

    def _remove_old(self, engine: Engine) -> None:
        """Remove some old rows every ten minutes, or with every flush while there are more."""
        from rayonnage_shared.predictions.repository import REMOVED_AT_ONCE, remove_predictions

        if time.monotonic() < self._next_removal:
            return
        now = time.time()
        removed = remove_predictions(
            engine, before=now - self._keep_days * DAY_S, feedback_before=now - self._keep_feedback_days * DAY_S
        )
        self._next_removal = 0.0 if removed == REMOVED_AT_ONCE else time.monotonic() + REMOVAL_EVERY_S
        if removed:
            log.info("prediction_log.rows_removed", rows=removed, older_than_days=self._keep_days)

    def _note_failure(self, error: Exception) -> None:
        if self._failure is None:
            # `orig` is the driver's own error; SQLAlchemy's has the values of the rows in its text.
            reason = getattr(error, "orig", None) or error
            log.warning("prediction_log.write_failed", error=repr(reason), waiting=len(self._buffer))
        self._failure = f"predictions are not written to the database ({type(error).__name__})"
        with contextlib.suppress(Exception):
            self._close()  # the next attempt opens and migrates it anew: it may be another database by then

    def _note_success(self) -> None:
        dropped = self._buffer.dropped - self._reported_drops
        if self._failure is not None:
            log.info("prediction_log.write_resumed", dropped=dropped)
        elif dropped:
            log.warning("prediction_log.rows_dropped", rows=dropped, reason="the database is too slow")
        self._reported_drops += dropped
        self._failure = None
