"""What is read from the log of predictions, on each database."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from sqlalchemy import Engine
from ulid import ULID

from rayonnage_shared.predictions.record import LoggedPrediction
from rayonnage_shared.predictions.repository import insert_predictions, sample_predictions

NOW = datetime(2026, 11, 21, 12, tzinfo=UTC)
VERSION, OTHER = "20261121T081500Z-3f2a", "20261121T091500Z-3f2a"


def logged(minutes_ago: float, version: str = VERSION) -> LoggedPrediction:
    moment = (NOW - timedelta(minutes=minutes_ago)).timestamp()
    said = (10, 0.9, "accept", 10, 0.9, None, None, 1.0)
    return LoggedPrediction(
        str(ULID.from_timestamp(moment)), moment, version, "jane", "r", "Piscine", None, None, False, None, *said
    )


def test_a_sample_is_of_one_bundle_and_one_time(engine: Engine) -> None:
    wanted = [logged(minutes) for minutes in (0.1, 30, 60)]
    insert_predictions(engine, [*wanted, logged(60.1), logged(0), logged(30, OTHER)])

    count, rows = sample_predictions(engine, VERSION, since=NOW - timedelta(hours=1), until=NOW, limit=10)

    assert count == 3
    assert {row.prediction_id for row in rows} == {one.prediction_id for one in wanted}


def test_a_large_time_is_sampled_all_over_and_always_alike(engine: Engine) -> None:
    insert_predictions(engine, [logged(minutes) for minutes in range(1, 101)])

    def sample() -> list[datetime]:
        count, rows = sample_predictions(engine, VERSION, since=NOW - timedelta(hours=2), until=NOW, limit=40)
        assert count == 100
        return [row.created_at for row in rows]

    first = sample()
    assert len(first) == 40
    assert min(first) < NOW - timedelta(minutes=70) and max(first) > NOW - timedelta(minutes=30)
    assert sample() == first
