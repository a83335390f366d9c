"""The table `feedback`: the true category of a prediction, and the dataset version that has ingested it."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import NamedTuple

from sqlalchemy import Engine, Insert, bindparam, func, or_, select, update
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.exc import IntegrityError
from sqlmodel import case, col

from rayonnage_shared.database.engine import reading, writing
from rayonnage_shared.database.tables import FeedbackRow, PredictionRow, now


class LabelledAnswer(NamedTuple):
    """A prediction with its true category."""

    prediction_id: str
    created_at: datetime
    """When predict answered; the feedback may be much later."""
    version: str
    category_id: int
    """The predicted category."""
    confidence: float
    decision: str
    truth: int


class LabelledProduct(NamedTuple):
    """A product as it was sent to predict, without its photo, which is not kept, and its true category."""

    prediction_id: str
    given_at: datetime
    designation: str | None
    description: str | None
    truth: int


class StoredFeedback(NamedTuple):
    """When feedback was stored, and whether it is the first about its prediction."""

    given_at: datetime
    is_first: bool


def store_feedback(
    engine: Engine, prediction_id: str, category_id: int, *, username: str, demo: bool
) -> StoredFeedback | None:
    """Store the true category of a prediction in place of earlier feedback; None if there is no such prediction.

    Feedback with another category has to be ingested again; feedback that repeats the category has not.
    """
    at = now()
    values = {"category_id": category_id, "username": username, "created_at": at, "demo": demo}
    truth = col(FeedbackRow.category_id)
    kept = case((truth == category_id, col(FeedbackRow.ingested_in)), else_=None)
    try:
        with writing(engine) as session:
            connection = session.connection()
            first = _insert(engine).values(prediction_id=prediction_id, **values)
            if connection.execute(first.returning(col(FeedbackRow.prediction_id))).first() is not None:
                return StoredFeedback(at, is_first=True)
            newer = update(FeedbackRow).where(col(FeedbackRow.prediction_id) == prediction_id)
            changed = connection.execute(newer.values(**values, ingested_in=kept)).rowcount
    except IntegrityError:
        return None
    return StoredFeedback(at, is_first=False) if changed else None


def find_feedback(engine: Engine, prediction_id: str) -> FeedbackRow | None:
    """Return the feedback about a prediction, or None."""
    with reading(engine) as session:
        return session.get(FeedbackRow, prediction_id)


def feedback_between(engine: Engine, version: str, since: datetime, until: datetime) -> list[LabelledAnswer]:
    """Return the predictions of a bundle from `since` to before `until` that have feedback, oldest first."""
    answered = col(PredictionRow.created_at)
    wanted = (
        select(
            col(PredictionRow.prediction_id),
            col(PredictionRow.created_at),
            col(PredictionRow.version),
            col(PredictionRow.category_id),
            col(PredictionRow.confidence),
            col(PredictionRow.decision),
            col(FeedbackRow.category_id),
        )
        .join(FeedbackRow, col(FeedbackRow.prediction_id) == col(PredictionRow.prediction_id))
        .where(answered >= since, answered < until, col(PredictionRow.version) == version)
        .order_by(answered, col(PredictionRow.prediction_id))
    )
    with reading(engine) as session:
        return [LabelledAnswer(*row) for row in session.connection().execute(wanted)]


def count_feedback(engine: Engine) -> int:
    """Return how many predictions have feedback."""
    with reading(engine) as session:
        return session.scalar(select(func.count()).select_from(FeedbackRow)) or 0


def count_not_ingested(engine: Engine) -> int:
    """Return how much feedback is in no dataset version yet, with or without a text to learn from."""
    with reading(engine) as session:
        not_ingested = select(func.count()).select_from(FeedbackRow).where(col(FeedbackRow.ingested_in).is_(None))
        return session.scalar(not_ingested) or 0


def labelled_products(engine: Engine, *, demo: bool, limit: int) -> list[LabelledProduct]:
    """Return at most `limit` products that have a text and are in no dataset version yet, oldest feedback first.

    `demo` selects predictions of models that were trained on the demo catalogue, or on real products.
    """
    texts = (col(PredictionRow.designation), col(PredictionRow.description))
    wanted = (
        select(
            col(PredictionRow.prediction_id),
            col(FeedbackRow.created_at),
            *texts,
            col(FeedbackRow.category_id),
        )
        .join(FeedbackRow, col(FeedbackRow.prediction_id) == col(PredictionRow.prediction_id))
        .where(
            col(FeedbackRow.ingested_in).is_(None),
            col(FeedbackRow.demo) == demo,
            or_(*(text.is_not(None) for text in texts)),
        )
        .order_by(col(FeedbackRow.created_at), col(PredictionRow.prediction_id))
        .limit(limit)
    )
    with reading(engine) as session:
        return [LabelledProduct(*row) for row in session.connection().execute(wanted)]


def mark_ingested(engine: Engine, products: Sequence[LabelledProduct], dataset_version: str) -> None:
    """Record the dataset version that holds these products, except those with newer feedback."""
    one = update(FeedbackRow).where(
        col(FeedbackRow.prediction_id) == bindparam("id"), col(FeedbackRow.category_id) == bindparam("truth")
    )
    if products:
        done = [{"id": product.prediction_id, "truth": product.truth} for product in products]
        with writing(engine) as session:
            session.connection().execute(one.values(ingested_in=dataset_version), done)


def _insert(engine: Engine) -> Insert:
    table = FeedbackRow.__table__  # type: ignore[attr-defined]
    if engine.dialect.name == "postgresql":
        return postgresql.insert(table).on_conflict_do_nothing()
    return sqlite.insert(table).on_conflict_do_nothing()
