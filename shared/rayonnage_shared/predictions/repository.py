"""The table `predictions`: insert rows in batches, find and sample them, and remove the oldest."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from sqlalchemy import Engine, Insert, func
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.exc import DataError, IntegrityError
from sqlmodel import col, delete, select

from rayonnage_shared.core.errors import DependencyDown
from rayonnage_shared.database.engine import reading, writing
from rayonnage_shared.database.tables import FeedbackRow, PredictionRow

if TYPE_CHECKING:
    from rayonnage_shared.predictions.record import LoggedPrediction

REMOVED_AT_ONCE = 500


class LogUnreadable(DependencyDown):
    code, title = "prediction_log_unreadable", "The prediction log cannot be read"


_REFUSED = (DataError, IntegrityError, ValueError)
"""Errors of the rows and not of the database; ValueError is a text that UTF-8 cannot encode."""


def insert_predictions(engine: Engine, rows: Sequence[LoggedPrediction]) -> int:
    """Insert the rows in one transaction and return how many the database refused because of their values.

    Existing rows are left as they are: a retry after a lost confirmation inserts nothing twice.
    """
    values = [_values(row) for row in rows]
    statement = _insert(engine)
    try:
        with engine.begin() as connection:
            connection.execute(statement, values)
    except _REFUSED:
        return sum(not _insert_one(engine, statement, one) for one in values)
    return 0


def remove_predictions(engine: Engine, *, before: float, feedback_before: float, limit: int = REMOVED_AT_ONCE) -> int:
    """Remove at most `limit` rows created before a time (seconds since 1970), oldest first, and return how many.

    Rows with feedback of `feedback_before` or later stay. Feedback is removed with its prediction.
    """
    moment, feedback_moment = datetime.fromtimestamp(before, UTC), datetime.fromtimestamp(feedback_before, UTC)
    kept = select(FeedbackRow.prediction_id).where(
        col(FeedbackRow.prediction_id) == col(PredictionRow.prediction_id),
        col(FeedbackRow.created_at) >= feedback_moment,
    )
    expired = (
        select(PredictionRow.prediction_id)
        .where(col(PredictionRow.created_at) < moment, ~kept.exists())
        .order_by(col(PredictionRow.created_at))
        .limit(limit)
        .with_for_update(skip_locked=True)  # another replica may be removing them
    )
    with reading(engine) as session:  # takes no write lock when there is nothing to remove, which is the usual case
        if session.exec(expired.limit(1)).first() is None:
            return 0
    with writing(engine) as session:
        ids = session.exec(expired).all()
        session.exec(delete(PredictionRow).where(col(PredictionRow.prediction_id).in_(ids)))
    return len(ids)


def find_prediction(engine: Engine, prediction_id: str) -> PredictionRow | None:
    """Return a prediction, or None if it was never written or has been removed."""
    with reading(engine) as session:
        return session.get(PredictionRow, prediction_id)


def sample_predictions(
    engine: Engine, version: str, *, since: datetime, until: datetime, limit: int
) -> tuple[int, list[PredictionRow]]:
    """Return the number of predictions of a bundle from `since` to before `until`, and a sample of at most `limit`.

    The same rows give the same sample, which is ordered by the random part of the id.
    """
    moment, bundle = col(PredictionRow.created_at), col(PredictionRow.version)
    wanted = (moment >= since, moment < until, bundle == version)
    random_part = func.substr(PredictionRow.prediction_id, 11)
    with reading(engine) as session:
        count = session.exec(select(func.count()).select_from(PredictionRow).where(*wanted)).one()
        return count, list(session.exec(select(PredictionRow).where(*wanted).order_by(random_part).limit(limit)))


def _insert(engine: Engine) -> Insert:
    table = PredictionRow.__table__  # type: ignore[attr-defined]
    if engine.dialect.name == "postgresql":
        return postgresql.insert(table).on_conflict_do_nothing()
    return sqlite.insert(table).on_conflict_do_nothing()


def _insert_one(engine: Engine, statement: Insert, values: dict[str, Any]) -> bool:
    try:
        with engine.begin() as connection:
            connection.execute(statement, [values])
    except _REFUSED:
        return False
    return True


def _values(row: LoggedPrediction) -> dict[str, Any]:
    values = row._asdict()
    values["created_at"] = datetime.fromtimestamp(row.created_at, UTC)
    for name in _TEXTS:
        text = values[name]
        if text is not None and "\0" in text:
            values[name] = text.replace("\0", "\ufffd")  # PostgreSQL takes no NUL
    return values


_TEXTS: Iterable[str] = ("designation", "description", "product_identifier")
