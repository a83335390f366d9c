"""The table `feedback`: what products really are, said about their predictions, and what became of it."""

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
    """A prediction with the truth about it."""

    prediction_id: str
    created_at: datetime
    """When predict answered; the truth may have come much later."""
    version: str
    category_id: int
    """What was predicted."""
    confidence: float
    decision: str
    truth: int


class LabelledProduct(NamedTuple):
    """What was sent to predict, beside its photo, which is not kept, and the truth about it."""

    prediction_id: str
    given_at: datetime
    designation: str | None
    description: str | None
    truth: int


class Given(NamedTuple):
    """Feedback that was written: when, and whether it is the first word about its prediction."""

    at: datetime
    is_first: bool


def give_feedback(engine: Engine, prediction_id: str, category_id: int, *, username: str, demo: bool) -> Given | None:
    """Write the truth about a prediction over what was said of it before; None where there is no such prediction.

    Another truth is another product to learn from, so it counts as not ingested yet; the same one again does not.
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
                return Given(at, is_first=True)
            newer = update(FeedbackRow).where(col(FeedbackRow.prediction_id) == prediction_id)
            changed = connection.execute(newer.values(**values, ingested_in=kept)).rowcount
    except IntegrityError:
        return None
    return Given(at, is_first=False) if changed else None


def find_feedback(engine: Engine, prediction_id: str) -> FeedbackRow | None:
    """Return what was said about a prediction, if anything."""
    with reading(engine) as session:
        return session.get(FeedbackRow, prediction_id)


def feedback_between(engine: Engine, version: str, since: datetime, until: datetime) -> list[LabelledAnswer]:
    """Return what a bundle answered from `since` to before `until` and of which the truth is known, oldest first."""
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
    """Return of how many predictions the truth is known."""
    with reading(engine) as session:
        return session.scalar(select(func.count()).select_from(FeedbackRow)) or 0


def count_waiting(engine: Engine) -> int:
    """Return how much feedback is in no dataset yet, whether or not anything can be learned from it."""
    with reading(engine) as session:
        waiting = select(func.count()).select_from(FeedbackRow).where(col(FeedbackRow.ingested_in).is_(None))
        return session.scalar(waiting) or 0


def labelled_products(engine: Engine, *, demo: bool, limit: int) -> list[LabelledProduct]:
    """Return what is in no dataset yet and has a text, in the order in which it was said, `limit` at most.

    `demo` says of which models' predictions: those that learned from the demo catalogue, or from real products.
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
    """Write down which dataset holds these products now; where the truth has changed meanwhile, it stays to be done."""
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
