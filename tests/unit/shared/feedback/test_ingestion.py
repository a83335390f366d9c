"""Feedback becomes labelled products, once, and never over what is newer."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from sqlalchemy import Engine
from ulid import ULID

from rayonnage_shared.feedback import ingestion as feedback_ingestion
from rayonnage_shared.feedback.ingestion import ingest_feedback
from rayonnage_shared.feedback.repository import find_feedback, store_feedback
from rayonnage_shared.ml.base.categories import Categories
from rayonnage_shared.ml.catalogue.datasets import DatasetStore
from rayonnage_shared.ml.catalogue.ingestion.ingest import ingest
from rayonnage_shared.ml.catalogue.ingestion.reports import IngestReports
from rayonnage_shared.ml.catalogue.schemas import IngestReport
from rayonnage_shared.predictions.record import LoggedPrediction
from rayonnage_shared.predictions.repository import insert_predictions
from tests.unit.shared.ml.catalogue.catalogues import many_rows, title, write_csv

CATEGORIES = Categories((10, 40), {10: "Livres", 40: "Jeux"})
VERSION = "20261121T081500Z-3f2a"


class Crash(Exception):
    pass


@pytest.fixture
def store(tmp_path: Path) -> DatasetStore:
    """A dataset of twenty products, all of them 10."""
    made = DatasetStore(tmp_path / "data")
    upload(made, range(20))
    return made


def upload(store: DatasetStore, numbers: range, code: int = 10, *, demo: bool = False) -> IngestReport:
    features = write_csv(store.data_path.parent / "features.csv", many_rows(len(numbers), code, numbers.start))
    return ingest(store, features, None, None, categories=CATEGORIES, demo=demo)


def with_feedback(
    engine: Engine, designation: str | None, truth: int, *, demo: bool = False, photo: bool = False
) -> str:
    """Write a prediction and the truth about it, and return its id."""
    said = (10, 0.9, "accept", 10, 0.9, None, None, 1.0)
    row = LoggedPrediction(str(ULID()), time.time(), VERSION, "jane", "r", designation, None, None, photo, None, *said)
    insert_predictions(engine, [row])
    assert store_feedback(engine, row.prediction_id, truth, username="jane", demo=demo)
    return row.prediction_id


def take(store: DatasetStore, engine: Engine) -> IngestReport:
    return ingest_feedback(store, engine, categories=CATEGORIES)


def codes(store: DatasetStore) -> dict[str, int]:
    current = store.current()
    assert current is not None
    found = store.load(current)
    return dict(zip(found.designations, found.codes.tolist(), strict=True))


def ingested_in(engine: Engine, prediction_id: str) -> str | None:
    found = find_feedback(engine, prediction_id)
    assert found is not None
    return found.ingested_in


def test_feedback_is_in_the_next_version_and_is_not_ingested_again(store: DatasetStore, engine: Engine) -> None:
    new, known = with_feedback(engine, "Ballon de plage", 40), with_feedback(engine, title(3), 40)

    report = take(store, engine)

    assert (report.rows_total, report.rows_added, report.conflicts, report.feedback_skipped) == (2, 2, 1, 0)
    assert (codes(store)["Ballon de plage"], codes(store)[title(3)], codes(store)[title(4)]) == (40, 40, 10)
    assert report.dataset_version == store.current()
    assert {ingested_in(engine, new), ingested_in(engine, known)} == {store.current()}
    assert IngestReports(store.data_path).read(report.ingest_id) == report
    again = take(store, engine)
    assert (again.rows_total, again.dataset_version) == (0, report.dataset_version)


def test_what_agrees_with_the_dataset_makes_no_version(store: DatasetStore, engine: Engine) -> None:
    before = store.current()
    one = with_feedback(engine, title(3), 10)
    report = take(store, engine)
    assert (report.rows_added, report.rows_duplicate, report.dataset_version) == (0, 1, before)
    assert ingested_in(engine, one) == before


def test_a_label_that_came_in_since_stands(store: DatasetStore, engine: Engine) -> None:
    one = with_feedback(engine, title(3), 40)
    time.sleep(0.002)
    upload(store, range(3, 4), code=40)
    upload(store, range(3, 4), code=10)
    report = take(store, engine)
    assert report.rows_added == 0
    assert codes(store)[title(3)] == 10
    assert ingested_in(engine, one) == store.current(), "it is settled"


def test_an_ingest_that_died_before_the_mark_is_made_up_for_and_does_not_undo_what_came_since(
    store: DatasetStore, engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    one = with_feedback(engine, title(3), 40)

    def die(*_: object) -> None:
        raise Crash

    with monkeypatch.context() as patch:
        patch.setattr(feedback_ingestion, "mark_ingested", die)
        with pytest.raises(Crash):
            take(store, engine)
    assert codes(store)[title(3)] == 40
    assert ingested_in(engine, one) is None
    upload(store, range(3, 4), code=10)

    report = take(store, engine)

    assert (report.rows_total, report.rows_added) == (1, 0)
    assert codes(store)[title(3)] == 10
    assert ingested_in(engine, one) == store.current()


def test_several_ingests_at_once_take_each_word_once(store: DatasetStore, engine: Engine) -> None:
    for number in range(10):
        with_feedback(engine, f"Ballon numéro {number}", 40)
    with ThreadPoolExecutor(3) as threads:
        working = [threads.submit(take, store, engine) for _ in range(3)]
    assert sorted(one.result().rows_total for one in working) == [0, 0, 10]
    assert len(store.versions()) == 2


def test_what_has_no_text_is_left_out_and_counted(store: DatasetStore, engine: Engine) -> None:
    photo, product = (
        with_feedback(engine, None, 40, photo=True),
        with_feedback(engine, "Ballon de plage", 40, photo=True),
    )
    report = take(store, engine)
    assert (report.rows_added, report.feedback_skipped) == (1, 1)
    assert (ingested_in(engine, photo), ingested_in(engine, product)) == (None, store.current())


def test_a_row_that_is_refused_waits(store: DatasetStore, engine: Engine) -> None:
    refused = with_feedback(engine, "Ballon", 99)
    report = take(store, engine)
    assert (report.rows_rejected, report.dataset_version) == (1, None)
    assert ingested_in(engine, refused) is None


def test_feedback_on_demo_models_stays_out_of_real_data(store: DatasetStore, engine: Engine) -> None:
    with_feedback(engine, "Ballon de plage", 40, demo=True)
    before = store.current()
    report = take(store, engine)
    assert (report.rows_total, report.feedback_skipped, report.dataset_version) == (0, 1, before)


def test_the_demo_dataset_grows_by_feedback_on_demo_models_alone(tmp_path: Path, engine: Engine) -> None:
    store = DatasetStore(tmp_path / "data")
    upload(store, range(20), demo=True)
    with_feedback(engine, "Ballon de plage", 40, demo=True)
    with_feedback(engine, "Robot de cuisine", 40)

    report = take(store, engine)

    assert (report.rows_added, report.feedback_skipped) == (1, 1)
    assert "Ballon de plage" in codes(store) and "Robot de cuisine" not in codes(store)
    assert store.pointers().real is None
    assert store.describe(store.current() or "").demo


def test_without_a_dataset_feedback_waits(tmp_path: Path, engine: Engine) -> None:
    one = with_feedback(engine, "Ballon de plage", 40)
    report = take(DatasetStore(tmp_path / "empty"), engine)
    assert (report.rows_total, report.dataset_version, report.feedback_skipped) == (0, None, 1)
    assert ingested_in(engine, one) is None
