"""Feedback is stored and read on each database."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from sqlalchemy import Engine
from ulid import ULID

from rayonnage_shared.database.tables import FeedbackRow
from rayonnage_shared.feedback.repository import (
    LabelledProduct,
    count_feedback,
    feedback_between,
    find_feedback,
    labelled_products,
    mark_ingested,
    store_feedback,
)
from rayonnage_shared.predictions.record import LoggedPrediction
from rayonnage_shared.predictions.repository import insert_predictions

NOW = datetime(2026, 11, 21, 12, tzinfo=UTC)
VERSION, OTHER = "20261121T081500Z-3f2a", "20261121T091500Z-3f2a"
DATASET = "20261121T100000Z-0a1b"


def predicted(engine: Engine, minutes_ago: float = 10, version: str = VERSION) -> str:
    """Write a prediction of 10 and return its id."""
    moment = (NOW - timedelta(minutes=minutes_ago)).timestamp()
    said = (10, 0.9, "accept", 10, 0.9, None, None, 1.0)
    row = LoggedPrediction(
        str(ULID.from_timestamp(moment)), moment, version, "jane", "r", "Piscine", None, None, False, None, *said
    )
    insert_predictions(engine, [row])
    return row.prediction_id


def give(engine: Engine, prediction_id: str, truth: int, *, username: str = "jane", demo: bool = False) -> bool | None:
    """Say it and return whether it was the first word, or None where there is no such prediction."""
    given = store_feedback(engine, prediction_id, truth, username=username, demo=demo)
    return None if given is None else given.is_first


def found(engine: Engine, prediction_id: str) -> FeedbackRow:
    row = find_feedback(engine, prediction_id)
    assert row is not None
    return row


def waiting(engine: Engine, *, demo: bool = False) -> list[LabelledProduct]:
    return labelled_products(engine, demo=demo, limit=100)


def test_the_newest_word_about_a_prediction_wins(engine: Engine) -> None:
    one = predicted(engine)

    assert give(engine, one, 2583) is True
    assert give(engine, one, 1160, username="joe") is False

    row = found(engine, one)
    assert (row.category_id, row.username, row.ingested_in) == (1160, "joe", None)
    assert datetime.now(UTC) - row.created_at < timedelta(minutes=1)
    assert count_feedback(engine) == 1


def test_there_is_no_feedback_about_a_prediction_that_is_not_there(engine: Engine) -> None:
    assert give(engine, str(ULID()), 2583) is None
    assert count_feedback(engine) == 0


def test_answers_come_with_the_truth_about_them(engine: Engine) -> None:
    right, wrong = predicted(engine, 20), predicted(engine, 10)
    for one, truth in ((right, 10), (wrong, 2583), (predicted(engine, 10, OTHER), 10), (predicted(engine, 61), 10)):
        give(engine, one, truth)
    predicted(engine, 5)  # nobody said anything about this one

    answers = feedback_between(engine, VERSION, NOW - timedelta(hours=1), NOW)

    assert [(one.prediction_id, one.category_id, one.truth) for one in answers] == [(right, 10, 10), (wrong, 10, 2583)]
    assert (answers[0].decision, answers[0].confidence, answers[0].version) == ("accept", 0.9, VERSION)
    assert answers[0].created_at == NOW - timedelta(minutes=20)


def test_what_is_in_a_dataset_is_not_taken_again_unless_the_truth_changes(engine: Engine) -> None:
    one, other = predicted(engine), predicted(engine)
    give(engine, one, 2583)
    give(engine, other, 10)
    assert [(product.prediction_id, product.truth) for product in waiting(engine)] == [(one, 2583), (other, 10)]
    assert (waiting(engine)[0].designation, waiting(engine)[0].description) == ("Piscine", None)

    mark_ingested(engine, waiting(engine), DATASET)
    assert waiting(engine) == []

    give(engine, one, 2583)
    assert found(engine, one).ingested_in == DATASET, "the same truth again is nothing new"
    give(engine, other, 1160)
    assert [(product.prediction_id, product.truth) for product in waiting(engine)] == [(other, 1160)]


def test_feedback_given_during_an_ingest_is_not_lost(engine: Engine) -> None:
    one = predicted(engine)
    give(engine, one, 2583)
    taken = waiting(engine)
    give(engine, one, 1160)
    mark_ingested(engine, taken, DATASET)
    assert [product.truth for product in waiting(engine)] == [1160]


def test_predictions_of_demo_models_are_kept_apart(engine: Engine) -> None:
    demo, real = predicted(engine), predicted(engine)
    give(engine, demo, 10, demo=True)
    give(engine, real, 10)
    assert [product.prediction_id for product in waiting(engine, demo=True)] == [demo]
    assert [product.prediction_id for product in waiting(engine)] == [real]
