"""A bounded buffer of rows on their way to the database."""

from __future__ import annotations

import threading
from collections import deque

from prometheus_client import Counter

from rayonnage_shared.predictions.record import LoggedPrediction

MAX_BUFFERED_CHARACTERS = 16_000_000  # of texts: 16 MB, or 64 MB where all of them are emoji

DROPPED = Counter("rayonnage_prediction_log_dropped", "Predictions that were lost before they were written.")


class RowBuffer:
    """A queue that is bounded in rows and in characters; beyond that the oldest rows are dropped. Thread-safe."""

    def __init__(self, max_rows: int, max_characters: int = MAX_BUFFERED_CHARACTERS) -> None:
        self._max_rows = max_rows
        self._max_characters = max_characters
        self._rows: deque[LoggedPrediction] = deque()
        self._characters = 0
        self.dropped = 0
        self._lock = threading.Lock()

    def __len__(self) -> int:
        return len(self._rows)

    def add(self, row: LoggedPrediction) -> int:
        """Append a row and return the length of the queue."""
        with self._lock:
            self._rows.append(row)
            self._characters += row.characters
            if len(self._rows) > self._max_rows or self._characters > self._max_characters:
                self._drop_oldest()
            return len(self._rows)

    def take(self, count: int) -> list[LoggedPrediction]:
        """Remove and return at most `count` rows, the oldest first."""
        with self._lock:
            taken = [self._rows.popleft() for _ in range(min(count, len(self._rows)))]
            self._characters -= sum(row.characters for row in taken)
            return taken

    def put_back(self, rows: list[LoggedPrediction]) -> None:
        """Return rows that were taken to the front of the queue."""
        with self._lock:
            self._rows.extendleft(reversed(rows))
            self._characters += sum(row.characters for row in rows)
            self._drop_oldest()

    def _drop_oldest(self) -> None:
        while len(self._rows) > self._max_rows or self._characters > self._max_characters:
            self._characters -= self._rows.popleft().characters
            self.dropped += 1
            DROPPED.inc()
