"""Metrics of the API go to MLflow once for each span of time, from the log of predictions."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import cast

import pytest
from sqlalchemy import Engine

from rayonnage_shared.database.engine import migrate, open_database, writing
from rayonnage_shared.database.tables import PredictionRow
from rayonnage_shared.ml.bundles.champion import Champion, write_champion
from rayonnage_shared.sync.base import SyncTargetUnavailable
from rayonnage_shared.sync.mlflow.client import TrackingStore
from rayonnage_shared.sync.mlflow.record import Point
from rayonnage_shared.sync.mlflow.traffic import TrafficTarget
from rayonnage_shared.sync.settings import SyncSettings

MIDNIGHT = 1_790_000_000 - 1_790_000_000 % 300


@dataclass
class Mlflow:
    """Stands for MLflow: what was logged, in order."""

    points: list[Point] = field(default_factory=list)
    away: bool = False

    def connect(self, settings: SyncSettings) -> TrackingStore:
        if self.away:
            raise SyncTargetUnavailable("MLflow is down")
        return cast(TrackingStore, self)

    def log_points(self, tag: str, value: str, points: list[Point], *, start_ms: int) -> str:
        assert (tag, value) == ("rayonnage.kind", "api-metrics")
        self.points += points
        return "run"

    def metrics(self, name: str) -> dict[int, float]:
        """Return a metric's values by step, relative to MIDNIGHT."""
        return {point.step - MIDNIGHT: point.value for point in self.points if point.name == name}


@dataclass
class Scene:
    """A platform that has a champion and a log of predictions, and a clock."""

    settings: SyncSettings
    engine: Engine
    mlflow: Mlflow = field(default_factory=Mlflow)
    now: float = MIDNIGHT
    made: int = 0

    @property
    def target(self) -> TrafficTarget:
        return TrafficTarget(self.settings, self.mlflow.connect, lambda: self.now)

    def predict(self, at_s: float, *, ms: float = 10.0, version: str = "v1", decision: str = "accept") -> None:
        self.made += 1
        with writing(self.engine) as session:
            session.add(
                PredictionRow(
                    prediction_id=f"{self.made:026}",
                    created_at=datetime.fromtimestamp(MIDNIGHT + at_s, UTC),
                    version=version,
                    username="jane",
                    request_id="r",
                    has_image=False,
                    category_id=2583,
                    confidence=0.9 if decision == "accept" else 0.5,
                    decision=decision,
                    duration_ms=ms,
                )
            )

    def sync_at(self, seconds: float) -> None:
        self.now = MIDNIGHT + seconds
        if self.target.pending():
            self.target.sync(lambda sentence: None)


@pytest.fixture
def scene(tmp_path: Path) -> Iterator[Scene]:
    settings = SyncSettings(
        models_path=tmp_path / "models",
        data_path=tmp_path / "data",
        database_url=f"sqlite:///{tmp_path}/rayonnage.db",
        mlflow_tracking_uri="http://127.0.0.1:9",
    )
    settings.models_path.mkdir()
    write_champion(settings.models_path, Champion.promoted("20261121T081500Z-3f2a", "jane", "first"))
    engine = open_database(settings.database_url)
    migrate(engine)
    yield Scene(settings, engine)
    engine.dispose()


def test_a_span_is_logged_with_all_its_metrics(scene: Scene) -> None:
    for number in range(100):
        scene.predict(number, ms=number + 1, decision="accept" if number < 60 else "review")

    scene.sync_at(311)

    metrics = {point.name: point.value for point in scene.mlflow.points if "/" not in point.name}
    assert metrics["requests"] == 100
    assert metrics["requests_per_second"] == pytest.approx(1 / 3)
    assert metrics["duration_p50_ms"] == pytest.approx(50.5)
    assert metrics["duration_p95_ms"] == pytest.approx(95.05)
    assert metrics["duration_p99_ms"] == pytest.approx(99.01)
    assert metrics["mean_confidence"] == pytest.approx(0.74)
    assert metrics["share_accepted"] == pytest.approx(0.6)
    assert {(point.step, point.at_ms) for point in scene.mlflow.points} == {(MIDNIGHT + 300, 1000 * (MIDNIGHT + 300))}


def test_each_version_has_its_own_metrics_beside_those_of_all(scene: Scene) -> None:
    scene.predict(1, ms=10)
    scene.predict(2, ms=10)
    scene.predict(3, ms=40, version="v2")

    scene.sync_at(320)

    assert scene.mlflow.metrics("requests") == {300: 3}
    assert scene.mlflow.metrics("v1/requests") == {300: 2}
    assert scene.mlflow.metrics("v2/duration_p50_ms") == {300: 40}


def test_no_prediction_is_counted_twice_or_missed_however_often_it_is_looked(scene: Scene) -> None:
    for second in range(0, 1200, 7):
        scene.predict(second)
        scene.sync_at(second)
    scene.sync_at(1510)

    assert sum(scene.mlflow.metrics("requests").values()) == scene.made
    assert [point.step - MIDNIGHT for point in scene.mlflow.points if point.name == "requests"] == [300, 600, 900, 1200]


def test_a_span_waits_until_predict_has_written_it_down(scene: Scene) -> None:
    scene.predict(299)
    scene.sync_at(309)
    assert scene.mlflow.points == []

    scene.sync_at(310)

    assert scene.mlflow.metrics("requests") == {300: 1}


def test_without_traffic_mlflow_is_left_alone(scene: Scene) -> None:
    scene.mlflow.away = True
    scene.sync_at(1000)

    assert not scene.target.pending()


def test_what_an_outage_held_up_is_logged_afterwards_span_by_span(scene: Scene) -> None:
    for span in range(120):
        scene.predict(300 * span)
    scene.mlflow.away = True
    with pytest.raises(SyncTargetUnavailable):
        scene.sync_at(300 * 120 + 20)
    assert scene.target.pending()

    scene.mlflow.away = False
    scene.sync_at(300 * 120 + 30)

    assert scene.mlflow.metrics("requests") == {300 * (span + 1): 1 for span in range(120)}


def test_nothing_is_pending_without_a_champion(scene: Scene) -> None:
    (scene.settings.models_path / "champion.json").unlink()
    scene.now = MIDNIGHT + 1000

    assert not scene.target.pending()


def test_a_span_of_another_length_does_not_count_again_what_was_counted(scene: Scene) -> None:
    scene.predict(100)
    scene.predict(450)
    scene.sync_at(320)
    scene.settings = scene.settings.model_copy(update={"mlflow_api_metrics_every_s": 7200.0})

    scene.sync_at(14400)

    assert sum(scene.mlflow.metrics("requests").values()) == 2


def test_a_database_that_is_away_or_has_no_log_yet_harms_nobody(scene: Scene, tmp_path: Path) -> None:
    empty = scene.settings.model_copy(update={"database_url": f"sqlite:///{tmp_path}/empty.db"})
    TrafficTarget(empty, scene.mlflow.connect).sync(lambda sentence: None)

    away = scene.settings.model_copy(
        update={"database_url": "postgresql+psycopg://x@127.0.0.1:9/x?connect_timeout=2", "mlflow_model_name": "other"}
    )
    with pytest.raises(SyncTargetUnavailable, match="database"):
        TrafficTarget(away, scene.mlflow.connect).sync(lambda sentence: None)
