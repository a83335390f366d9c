"""Features of photos by network and content, in one SQLite file that trainings, the gate and reports share.

The file is a cache: it may be deleted at any time. Processes may use it at once, a killed process leaves it whole, and
whatever is wrong with it costs time, never a training.
"""

from __future__ import annotations

import json
import sqlite3
import time
import zlib
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import numpy as np
import structlog

from rayonnage_shared.ml.base.model import FloatArray

log = structlog.get_logger()

T = TypeVar("T")

MAX_BYTES = 1 << 30
"""170,000 photos with 1,504 features each."""
UNUSED_DAYS = 30
_WAIT_S = 10.0
_EVICTED_AT_ONCE = 10  # one in so many
_DAY_S = 86_400
_TABLE = """
CREATE TABLE IF NOT EXISTS features (
    network TEXT, photo TEXT, used_on INTEGER, checksum INTEGER, content BLOB, PRIMARY KEY (network, photo)
)"""
_FIND = """
SELECT photo, checksum, content FROM features WHERE network = ? AND photo IN (SELECT value FROM json_each(?))"""
_USE = """
UPDATE features SET used_on = ? WHERE network = ? AND photo IN (SELECT value FROM json_each(?)) AND used_on < ?"""
_EVICT = "DELETE FROM features WHERE rowid IN (SELECT rowid FROM features ORDER BY used_on, rowid LIMIT ?)"


@dataclass(frozen=True, slots=True)
class PhotoFeatureCache:
    """The cache in the file `path`, which grows to about `max_bytes`; then the features unused for longest are evicted.

    `network` identifies the network and how it is run, `photo` is the sha256 of a photo file.
    """

    path: Path
    max_bytes: int = MAX_BYTES

    def find(self, network: str, photos: Sequence[str]) -> dict[str, FloatArray]:
        """Return the cached features (width,) by photo; photos that are not cached are missing."""

        def read(database: sqlite3.Connection) -> dict[str, FloatArray]:
            wanted, today = (network, json.dumps(list(photos))), _today()
            rows = database.execute(_FIND, wanted).fetchall()
            # Once a day suffices to know what is unused, and a write makes other processes wait.
            database.execute(_USE, (today, *wanted, today))
            return {
                photo: np.frombuffer(content, dtype=np.float32)
                for photo, checksum, content in rows
                if _checksum(network, photo, content) == checksum
            }

        return self._run(read, {})

    def save(self, network: str, features: Mapping[str, FloatArray]) -> None:
        """Cache the features (width,) of photos."""
        contents = {photo: row.astype(np.float32).tobytes() for photo, row in features.items()}
        rows = [
            (network, photo, _today(), _checksum(network, photo, content), content)
            for photo, content in contents.items()
        ]

        def write(database: sqlite3.Connection) -> None:
            _make_room(database, self.max_bytes - sum(map(len, contents.values())))
            database.executemany("INSERT OR REPLACE INTO features VALUES (?, ?, ?, ?, ?)", rows)

        self._run(write, None)

    def prune(self) -> int:
        """Remove what was not used for `UNUSED_DAYS` days, shrink the file, and return how many photos were removed."""

        def remove(database: sqlite3.Connection) -> int:
            removed = database.execute("DELETE FROM features WHERE used_on < ?", (_today() - UNUSED_DAYS,)).rowcount
            database.commit()
            if removed:
                database.execute("VACUUM")
            return removed

        return self._run(remove, 0) if self.path.exists() else 0

    def _run(self, work: Callable[[sqlite3.Connection], T], otherwise: T) -> T:
        """Return what `work` returns, in one transaction, or `otherwise` if the cache cannot be used."""
        try:
            self.path.parent.mkdir(parents=True, exist_ok=True)
            with closing(sqlite3.connect(self.path, timeout=_WAIT_S)) as database, database:
                database.execute(_TABLE)
                return work(database)
        except (sqlite3.OperationalError, OSError) as error:  # locked, read-only, no space left
            log.warning("photo_features.not_cached", error=str(error))
        except sqlite3.DatabaseError as error:
            log.warning("photo_features.cache_removed", error=str(error))
            self.path.unlink(missing_ok=True)
        return otherwise


def _make_room(database: sqlite3.Connection, most_bytes: int) -> None:
    """Evict the features unused for longest until the rest takes at most `most_bytes`."""
    while _used_bytes(database) > most_bytes:
        (count,) = database.execute("SELECT COUNT(*) FROM features").fetchone()
        if not count:
            return
        database.execute(_EVICT, (-(-count // _EVICTED_AT_ONCE),))


def _used_bytes(database: sqlite3.Connection) -> int:
    pages, free, size = (
        int(database.execute(f"PRAGMA {name}").fetchone()[0]) for name in ("page_count", "freelist_count", "page_size")
    )
    return (pages - free) * size


def _checksum(network: str, photo: str, content: bytes) -> int:
    return zlib.crc32(content, zlib.crc32(f"{network} {photo}".encode()))


def _today() -> int:
    return int(time.time() // _DAY_S)
