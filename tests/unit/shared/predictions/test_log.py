"""The log of predictions: rows get to the database, whatever happens to it, and nobody waits for that."""

from __future__ import annotations

import asyncio
import hashlib
import sqlite3
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from prometheus_client import REGISTRY
from sqlalchemy import Engine, text
from sqlmodel import select
from structlog.testing import capture_logs
from structlog.typing import EventDict

from rayonnage_shared.database.engine import migrate, open_database, reading, writing
from rayonnage_shared.database.tables import FeedbackRow, PredictionRow, now
from rayonnage_shared.feedback.repository import count_feedback, store_feedback
from rayonnage_shared.ops.supervision import STOP_WAIT_S
from rayonnage_shared.predictions import repository
from rayonnage_shared.predictions.log import (
    BATCH_ROWS,
    DATABASE_WAIT_S,
    DAY_S,
    FLUSH_EVERY_S,
    STOP_WITHIN_S,
    PredictionLog,
)
from rayonnage_shared.predictions.record import LoggedPrediction
from rayonnage_shared.predictions.repository import find_prediction, insert_predictions, remove_predictions
from rayonnage_shared.predictions.row_buffer import RowBuffer
from tests.processor_time import relative_cost
from tests.unit.shared.predictions.records import PHOTO, VERSION, note, prediction, product
from tests.waiting import PATIENCE_S, eventually

NOBODY_LISTENS = "postgresql://nobody@127.0.0.1:9/rayonnage"


def logging_to(url: str, *, max_waiting: int = 1000, keep_texts: bool = True, every_s: float = 0.01) -> PredictionLog:
    return PredictionLog(url, max_waiting=max_waiting, keep_days=90, keep_texts=keep_texts, flush_every_s=every_s)


@contextmanager
def written_by(log: PredictionLog) -> Iterator[PredictionLog]:
    """Write what the block notes; all of it is written when the block has ended."""
    log.start()
    yield log
    log.stop(PATIENCE_S)


def ids(engine: Engine) -> list[str]:
    with reading(engine) as session:
        return list(session.exec(select(PredictionRow.prediction_id).order_by("prediction_id")))


def row(prediction_id: str, age: timedelta = timedelta(), designation: str | None = "Piscine") -> LoggedPrediction:
    made = time.time() - age.total_seconds()
    rest = (None, None, False, None, 2583, 0.97, "accept", 2582, 0.5, None, None, 11.8)
    return LoggedPrediction(prediction_id, made, VERSION, "jane", "request-1", designation, *rest)


def metric(name: str) -> float:
    return REGISTRY.get_sample_value(f"rayonnage_prediction_log_{name}") or 0.0


def wait_for(condition: Callable[[], object]) -> None:
    assert eventually(condition), "it never came true"


def of_the_log(events: Sequence[EventDict]) -> list[EventDict]:
    """Return the log's own events, without those of threads that other tests have left behind."""
    return [event for event in events if event["event"].startswith("prediction_log.")]


def trouble_of(log: PredictionLog) -> str | None:
    return asyncio.run(log.why_not_writing())


# What a row says


def test_a_prediction_becomes_a_row_that_says_all_of_it(engine: Engine, database_url: str) -> None:
    before = datetime.now(UTC)
    with written_by(logging_to(database_url)) as log:
        prediction_id = note(log, product("Piscine <b>ronde</b>", "3 m"), PHOTO)

    found = find_prediction(engine, prediction_id)
    assert found is not None
    assert before - timedelta(milliseconds=1) <= found.created_at <= datetime.now(UTC)
    assert found.model_dump(exclude={"created_at"}) == {
        "prediction_id": prediction_id,
        "version": VERSION,
        "username": "jane",
        "request_id": "request-1",
        "designation": "Piscine <b>ronde</b>",
        "description": "3 m",
        "product_identifier": "sku-1",
        "has_image": True,
        "image_sha256": hashlib.sha256(PHOTO).hexdigest(),
        "category_id": 2583,
        "confidence": 0.97,
        "decision": "accept",
        "text_category_id": 2582,
        "text_probability": 0.5,
        "image_category_id": None,
        "image_probability": None,
        "duration_ms": 11.8,
    }


def test_a_crash_costs_a_second_and_a_stop_ends_before_anybody_kills() -> None:
    assert FLUSH_EVERY_S <= 0.5, "the other half is for the write itself"
    assert DATABASE_WAIT_S < STOP_WITHIN_S < STOP_WAIT_S - 1


def test_the_columns_of_the_log_are_those_of_the_table() -> None:
    assert LoggedPrediction._fields == tuple(PredictionRow.model_fields)


def test_texts_are_left_out_where_they_are_not_to_be_kept(engine: Engine, database_url: str) -> None:
    with written_by(logging_to(database_url, keep_texts=False)) as log:
        prediction_id = note(log, product("Jane Doe's pool", "12 Main Street"))

    found = find_prediction(engine, prediction_id)
    assert found is not None
    assert (found.designation, found.description, found.product_identifier) == (None, None, "sku-1")


def test_a_title_with_a_character_that_postgresql_refuses_is_logged_too(engine: Engine) -> None:
    assert insert_predictions(engine, [row("1", designation="a\0b"), row("2")]) == 0
    found = find_prediction(engine, "1")
    assert found is not None and found.designation == "a\ufffdb"


# Writing


def test_what_has_piled_up_is_written_whole(engine: Engine, database_url: str) -> None:
    log = logging_to(database_url, max_waiting=3 * BATCH_ROWS)
    noted = [note(log) for _ in range(2 * BATCH_ROWS + 1)]
    before = metric("written_total")
    with written_by(log):
        wait_for(lambda: len(ids(engine)) == len(noted))
    assert ids(engine) == sorted(noted)
    assert metric("written_total") - before == len(noted)
    assert metric("waiting") == 0


def test_a_full_batch_does_not_wait_for_the_clock(engine: Engine, database_url: str) -> None:
    with written_by(logging_to(database_url, max_waiting=3 * BATCH_ROWS, every_s=600)) as log:
        for _ in range(2 * BATCH_ROWS):
            note(log)
        wait_for(lambda: len(ids(engine)) >= BATCH_ROWS)


def test_the_log_makes_its_own_tables(database_url: str) -> None:
    with written_by(logging_to(database_url)) as log:
        prediction_id = note(log)
    engine = open_database(database_url)
    assert ids(engine) == [prediction_id]
    engine.dispose()


def test_a_stop_writes_what_came_in_the_last_moment(engine: Engine, database_url: str) -> None:
    log = logging_to(database_url, every_s=600)
    noted = [note(log)]
    log.start()
    wait_for(lambda: ids(engine) == noted)  # the next rows wait for the clock, or for the stop
    noted += [note(log) for _ in range(7)]
    log.stop(PATIENCE_S)
    assert ids(engine) == sorted(noted)


def test_a_row_that_is_there_already_is_left_as_it_is(engine: Engine) -> None:
    assert insert_predictions(engine, [row("1", designation="first")]) == 0
    assert insert_predictions(engine, [row("1", designation="second"), row("2")]) == 0
    found = find_prediction(engine, "1")
    assert found is not None and found.designation == "first"
    assert ids(engine) == ["1", "2"]


def test_one_bad_row_keeps_none_of_the_others_out(engine: Engine) -> None:
    assert insert_predictions(engine, [row("1"), row("2", designation="\ud800"), row("3")]) == 1
    assert ids(engine) == ["1", "3"]


# Outages


def test_predictions_are_noted_and_dropped_oldest_first_while_the_database_is_away() -> None:
    log = logging_to(NOBODY_LISTENS, max_waiting=3)
    before = metric("dropped_total")
    with capture_logs() as events:
        log.start()
        wait_for(lambda: trouble_of(log))
        for _ in range(5):
            note(log)
        wait_for(lambda: metric("dropped_total") - before == 2)
        log.stop(within_s=0.2)
    assert metric("dropped_total") - before == 5
    failed, dropped = of_the_log(events)
    assert (failed["event"], dropped["event"]) == ("prediction_log.write_failed", "prediction_log.rows_dropped")
    assert dropped["rows"] == 3


def test_rows_wait_for_a_database_that_comes_back(tmp_path: Path) -> None:
    blocked = tmp_path / "data"
    blocked.write_text("a file where the folder should be")
    url = f"sqlite:///{blocked}/rayonnage.db"
    log = logging_to(url, max_waiting=3)
    with capture_logs() as events, written_by(log):
        noted = [note(log) for _ in range(5)]
        wait_for(lambda: trouble_of(log))
        assert "not written" in (trouble_of(log) or "")
        blocked.unlink()
        wait_for(lambda: trouble_of(log) is None)
    engine = open_database(url)
    assert ids(engine) == sorted(noted[2:]), "the newest three are kept"
    engine.dispose()
    failed, resumed = of_the_log(events)
    assert (failed["event"], resumed["event"]) == ("prediction_log.write_failed", "prediction_log.write_resumed")
    assert resumed["dropped"] == 2


def test_a_database_that_was_emptied_gets_its_tables_again(engine: Engine, database_url: str) -> None:
    with written_by(logging_to(database_url)) as log:
        note(log)
        wait_for(lambda: ids(engine))
        with engine.begin() as connection:
            connection.execute(text("DROP TABLE alembic_version"))
            connection.execute(text("DROP TABLE feedback"))
            connection.execute(text("DROP TABLE predictions"))
            for name in ("jobs", "promotions", "refresh_tokens", "revocations", "users"):
                connection.execute(text(f"DROP TABLE {name}"))
        later = note(log)
        wait_for(lambda: trouble_of(log))
        wait_for(lambda: trouble_of(log) is None)
    assert ids(engine) == [later]


def test_a_lock_that_another_process_holds_delays_the_rows_and_nobody_else(tmp_path: Path) -> None:
    path = tmp_path / "rayonnage.db"
    engine = open_database(f"sqlite:///{path}")
    migrate(engine)
    holder = sqlite3.connect(path, isolation_level=None)
    holder.execute("BEGIN IMMEDIATE")
    with written_by(logging_to(f"sqlite:///{path}")) as log:
        prediction_id = note(log)  # would not come back before the COMMIT if it waited
        assert ids(engine) == []
        holder.execute("COMMIT")
    holder.close()
    assert ids(engine) == [prediction_id]
    engine.dispose()


def test_a_failure_is_logged_without_the_row_that_was_written(engine: Engine, database_url: str) -> None:
    log = logging_to(database_url)
    note(log)
    with capture_logs() as events:
        log.start()
        wait_for(lambda: ids(engine))
        with engine.begin() as connection:
            connection.execute(text("DROP TABLE feedback"))
            connection.execute(text("DROP TABLE predictions"))
        note(log, product("Jane Doe's pool"))
        wait_for(lambda: trouble_of(log))
        log.stop(within_s=0.1)
    error = of_the_log(events)[0]["error"]
    assert "predictions" in error or "feedback" in error, "whichever statement comes first"
    assert "Jane" not in str(events)


def test_the_writer_goes_on_after_every_failure(
    engine: Engine, database_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Neither an unexpected error nor one in giving the connections back ends it."""
    dispose, insert = Engine.dispose, repository.insert_predictions
    disposals: list[Exception] = [OSError("the connection is gone")]
    failures: list[Exception] = [KeyError("column"), MemoryError()]

    def failing_dispose(engine: Engine) -> None:
        dispose(engine)
        if disposals:
            raise disposals.pop()

    def failing_insert(*arguments: Any) -> int:
        if failures:
            raise failures.pop()
        return insert(*arguments)

    monkeypatch.setattr(Engine, "dispose", failing_dispose)
    monkeypatch.setattr(repository, "insert_predictions", failing_insert)
    with capture_logs() as events, written_by(logging_to(database_url)) as log:
        prediction_id = note(log)
        wait_for(lambda: ids(engine))
        wait_for(lambda: trouble_of(log) is None)
    assert ids(engine) == [prediction_id]
    names = [one["event"] for one in of_the_log(events)]
    assert names == ["prediction_log.write_failed", "prediction_log.write_resumed"]


# Bounds


def test_waiting_rows_are_bounded_in_number_and_in_size() -> None:
    waiting = RowBuffer(max_rows=3, max_characters=100)
    for number in range(5):
        waiting.add(row(str(number), designation="ten signs."))
    assert [one.prediction_id for one in waiting.take(9)] == ["2", "3", "4"]
    waiting.add(row("small", designation="x" * 10))
    waiting.add(row("large", designation="x" * 95))
    assert [one.prediction_id for one in waiting.take(9)] == ["large"]
    assert waiting.dropped == 3


def test_rows_that_could_not_be_written_wait_again_before_the_others() -> None:
    waiting = RowBuffer(max_rows=4)
    for number in range(4):
        waiting.add(row(str(number)))
    taken = waiting.take(2)
    waiting.add(row("4"))
    waiting.put_back(taken)
    assert [one.prediction_id for one in waiting.take(9)] == ["1", "2", "3", "4"]


def test_noting_costs_the_hot_path_next_to_nothing() -> None:
    log = logging_to(NOBODY_LISTENS, max_waiting=100_000)
    answer, fields = prediction(), product("Piscine ronde", "Pour enfant " * 50)

    def add_many() -> None:
        for _ in range(200):
            log.add(answer, fields, None, username="jane", request_id="request-1")

    assert relative_cost(add_many, rounds=20) < 3  # 3 µs each


# Retention


def test_old_predictions_go_a_few_at_a_time(engine: Engine) -> None:
    old = [row(f"old-{number}", timedelta(days=91 + number)) for number in range(5)]
    insert_predictions(engine, [*old, row("new", timedelta(days=89))])
    limit = time.time() - timedelta(days=90).total_seconds()

    assert remove_predictions(engine, before=limit, feedback_before=limit, limit=2) == 2
    assert ids(engine) == ["new", "old-0", "old-1", "old-2"]
    assert remove_predictions(engine, before=limit, feedback_before=limit) == 3
    assert remove_predictions(engine, before=limit, feedback_before=limit) == 0
    assert ids(engine) == ["new"]


def test_the_log_removes_what_is_too_old_by_itself(engine: Engine, database_url: str) -> None:
    old = [row(f"old-{number:04}", timedelta(days=91)) for number in range(1200)]
    insert_predictions(engine, [*old, row("new")])
    with written_by(logging_to(database_url)):
        wait_for(lambda: ids(engine) == ["new"])


def say(engine: Engine, prediction_id: str, age: timedelta) -> None:
    """Give feedback about a prediction as if it had been so long ago."""
    assert store_feedback(engine, prediction_id, 10, username="jane", demo=False)
    with writing(engine) as session:
        session.get_one(FeedbackRow, prediction_id).created_at = datetime.now(UTC) - age


def test_a_prediction_with_feedback_stays_as_long_as_that_and_goes_with_it(engine: Engine) -> None:
    said = {"said-lately": 80, "said-long-ago": 101, "young": 50}
    insert_predictions(engine, [row("silent", timedelta(days=91))])
    insert_predictions(engine, [row(one, timedelta(days=40 if one == "young" else 102)) for one in said])
    for one, age in said.items():
        say(engine, one, timedelta(days=age))
    before, feedback_before = time.time() - 90 * DAY_S, time.time() - 100 * DAY_S

    assert remove_predictions(engine, before=before, feedback_before=feedback_before) == 2

    assert ids(engine) == ["said-lately", "young"]
    assert count_feedback(engine) == 2, "feedback goes with its prediction"
    assert remove_predictions(engine, before=before, feedback_before=time.time() - 30 * DAY_S) == 1
    assert ids(engine) == ["young"], "feedback is no reason to go earlier"


def test_the_log_keeps_what_feedback_is_about_by_itself(engine: Engine, database_url: str) -> None:
    insert_predictions(engine, [row(one, timedelta(days=400)) for one in ("old-feedback", "feedback", "none")])
    say(engine, "old-feedback", timedelta(days=366))
    say(engine, "feedback", timedelta(days=364))
    with written_by(logging_to(database_url)):
        wait_for(lambda: ids(engine) == ["feedback"])


@pytest.mark.system
@pytest.mark.parametrize("database_url", ["postgresql"], indirect=True)
def test_a_prediction_that_is_being_judged_is_passed_over(engine: Engine) -> None:
    insert_predictions(engine, [row("1", timedelta(days=2))])
    with writing(engine) as session:
        session.add(FeedbackRow(prediction_id="1", category_id=10, username="j", created_at=now(), demo=False))
        session.flush()
        assert remove_predictions(engine, before=time.time(), feedback_before=0) == 0
    assert ids(engine) == ["1"]


@pytest.mark.system
@pytest.mark.parametrize("database_url", ["postgresql"], indirect=True)
def test_two_predicts_may_remove_at_once(engine: Engine) -> None:
    """A row that another transaction is removing is passed over instead of waited for."""
    insert_predictions(engine, [row("1", timedelta(days=2)), row("2", timedelta(days=1))])
    with writing(engine) as session:
        session.exec(select(PredictionRow).where(PredictionRow.prediction_id == "1").with_for_update()).one()
        assert remove_predictions(engine, before=time.time(), feedback_before=0) == 1
    assert ids(engine) == ["1"]
