"""API metrics in MLflow: one long-lived run with a point for each interval with traffic.

The prediction log is the source, so an outage of MLflow loses nothing: missed intervals are logged afterwards, each
once. Intervals start at multiples of their length since 1970, independent of when and where they are logged.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import NamedTuple

import structlog
from sqlalchemy import Engine, func, inspect
from sqlmodel import Session, col, select

from rayonnage_shared.ml.bundles.champion import POINTER_NAME
from rayonnage_shared.sync.base import Markers, Say, SyncTargetUnavailable
from rayonnage_shared.sync.mlflow.record import Point
from rayonnage_shared.sync.mlflow.target import Connect, connect_to_mlflow, store_identity
from rayonnage_shared.sync.settings import SyncSettings

log = structlog.get_logger()

NAME = "mlflow-traffic"
RUN_TAG = "rayonnage.kind"
RUN_NAME = "api-metrics"
SETTLED_AFTER_S = 10  # predict writes its log within a second
SPANS_AT_ONCE = 50
_MARKER = "logged"


@dataclass(frozen=True, slots=True)
class Traffic:
    """Traffic of one interval, in seconds since 1970; `version` None is all bundles together."""

    version: str | None
    start_s: float
    end_s: float
    requests: int
    p50_ms: float
    p95_ms: float
    p99_ms: float
    mean_confidence: float
    share_accepted: float

    def points(self) -> list[Point]:
        """Return one point per metric. The step is the interval's end in seconds, so one interval is one step."""
        prefix = f"{self.version}/" if self.version else ""
        metrics = {
            "requests": self.requests,
            "requests_per_second": self.requests / (self.end_s - self.start_s),
            "duration_p50_ms": self.p50_ms,
            "duration_p95_ms": self.p95_ms,
            "duration_p99_ms": self.p99_ms,
            "mean_confidence": self.mean_confidence,
            "share_accepted": self.share_accepted,
        }
        step, at_ms = int(self.end_s), int(1000 * self.end_s)
        return [Point(f"{prefix}{name}", float(value), step, at_ms) for name, value in metrics.items()]


class Answer(NamedTuple):
    """The columns read from one prediction."""

    version: str
    duration_ms: float
    confidence: float
    decision: str


class TrafficTarget:
    """Logs finished intervals that were not logged yet."""

    name = NAME

    def __init__(
        self,
        settings: SyncSettings,
        connect: Connect = connect_to_mlflow,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._settings = settings
        self._connect = connect
        self._clock = clock
        self._every_s = settings.mlflow_api_metrics_every_s
        self._markers = Markers(settings.models_path, NAME)
        self._store_id = store_identity(settings)

    def pending(self) -> bool:
        """Return whether an interval has ended since the last sync. Without a champion there is no traffic."""
        if not (self._settings.models_path / POINTER_NAME).exists():
            return False
        return self._settled_until() > self._logged_until()

    def sync(self, say: Say) -> None:
        """Log all finished intervals. Raises SyncTargetUnavailable."""
        until = self._settled_until()
        with _database(self._settings.database_url) as engine:
            while (since := self._logged_until()) < until:
                found, reached = _spans(engine, since, until, self._every_s)
                if found:
                    self._log(found)
                    requests = sum(one.requests for one in found if one.version is None)
                    log.info("tracking.traffic_logged", requests=requests, until=reached)
                    say(f"{requests} predictions are in MLflow's run `{RUN_NAME}`")
                self._markers.write(_MARKER, {"store": self._store_id, "until": reached})

    def _log(self, found: list[Traffic]) -> None:
        points = [point for one in found for point in one.points()]
        store = self._connect(self._settings)
        store.log_points(RUN_TAG, RUN_NAME, points, start_ms=int(1000 * found[0].start_s))

    def _settled_until(self) -> float:
        settled = self._clock() - SETTLED_AFTER_S
        return settled - settled % self._every_s

    def _logged_until(self) -> float:
        marker = self._markers.read(_MARKER)
        return float(marker.get("until", 0.0)) if marker and marker.get("store") == self._store_id else 0.0


@contextmanager
def _database(url: str) -> Iterator[Engine]:
    """Yield the database with the prediction log. Raises SyncTargetUnavailable."""
    from rayonnage_shared.database.engine import DATABASE_AWAY, open_database

    engine = open_database(url)
    try:
        yield engine
    except DATABASE_AWAY as error:
        raise SyncTargetUnavailable(f"The database cannot be reached ({error.orig}).") from error
    finally:
        engine.dispose()


def _spans(engine: Engine, since: float, until: float, every_s: float) -> tuple[list[Traffic], float]:
    """Return the traffic between two times, a limited number of intervals, and the time up to which it is complete."""
    from rayonnage_shared.database.engine import reading
    from rayonnage_shared.database.tables import PredictionRow

    if not inspect(engine).has_table(PredictionRow.__tablename__):
        return [], until
    found: list[Traffic] = []
    with reading(engine) as session:
        for _ in range(SPANS_AT_ONCE):
            first = _first_after(session, since, until)
            if first is None:
                return found, until
            begin = first - first % every_s
            found += _traffic(session, max(begin, since), begin + every_s)
            since = begin + every_s
    return found, since


def _first_after(session: Session, since: float, until: float) -> float | None:
    """Return the time of the first prediction between two times."""
    from rayonnage_shared.database.tables import PredictionRow

    made = col(PredictionRow.created_at)
    first = session.exec(select(func.min(made)).where(made >= _moment(since), made < _moment(until))).one()
    return first.timestamp() if first else None


def _traffic(session: Session, start: float, end: float) -> list[Traffic]:
    """Return one interval's traffic: the total, then by version."""
    from rayonnage_shared.database.tables import PredictionRow

    made = col(PredictionRow.created_at)
    columns = select(PredictionRow.version, PredictionRow.duration_ms, PredictionRow.confidence, PredictionRow.decision)
    rows = [Answer(*row) for row in session.exec(columns.where(made >= _moment(start), made < _moment(end)))]
    versions: list[str | None] = [None, *sorted({row.version for row in rows})]
    return [
        _metrics(version, start, end, [row for row in rows if version in (None, row.version)]) for version in versions
    ]


def _metrics(version: str | None, start: float, end: float, rows: list[Answer]) -> Traffic:
    import numpy as np

    p50, p95, p99 = np.percentile([row.duration_ms for row in rows], (50, 95, 99)).tolist()
    return Traffic(
        version=version,
        start_s=start,
        end_s=end,
        requests=len(rows),
        p50_ms=p50,
        p95_ms=p95,
        p99_ms=p99,
        mean_confidence=sum(row.confidence for row in rows) / len(rows),
        share_accepted=sum(row.decision == "accept" for row in rows) / len(rows),
    )


def _moment(seconds: float) -> datetime:
    return datetime.fromtimestamp(seconds, UTC)
