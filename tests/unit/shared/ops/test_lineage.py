"""Lineage: the whole chain where everything is there, and what is left of it where parts are gone."""

from __future__ import annotations

import hashlib
import json
import shutil
import time
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine

from rayonnage_shared.database.engine import open_database, writing
from rayonnage_shared.database.tables import PromotionRow
from rayonnage_shared.feedback.repository import labelled_products, mark_ingested, store_feedback
from rayonnage_shared.ml.bundles.champion import Champion, write_champion
from rayonnage_shared.ops.lineage import ChampionPeriod, Guess, Lineages, Model, Run, Truth, UnknownToLineage
from rayonnage_shared.predictions.record import LoggedPrediction
from rayonnage_shared.predictions.repository import LogUnreadable, insert_predictions
from rayonnage_shared.sync.base import Markers
from tests.unit.shared.ml.bundles.manifests import write_bundle

PREDICTION = "01M7YGVQFEDD7NF6F00ZAHT89A"
FIRST, SECOND = "20261101T080000Z-aaaa", "20261102T080000Z-bbbb"
OLD_DATA, NEW_DATA = "20261030T080000Z-0000", "20261031T080000Z-1111"
START = datetime(2026, 11, 1, 9, tzinfo=UTC)


@dataclass(frozen=True)
class Shop:
    """Two datasets, a first model and a second that kept its photos' part, and a prediction by the second."""

    models: Path
    data: Path
    engine: Engine

    @property
    def lineages(self) -> Lineages:
        return Lineages(self.models, self.data, self.engine)

    def model(self, name: str) -> Model:
        found = self.lineages.trace(name).model
        assert found is not None
        return found

    def write_bundle(self, version: str, dataset: str, base: str | None) -> None:
        write_bundle(
            self.models,
            version,
            families={"text": "tfidf-svm", "image": "efficientnet-lite0", "fusion": "weighted"},
            dataset={"version": dataset, "sha256": f"sha of {dataset}", "demo": False},
            base_version=base,
            code_version="2f054eb",
            submitted_by="claire",
            metrics={"rows": 206, "accuracy": 0.9, "f1_weighted": 0.8, "ms_per_product": 3.0},
        )

    def write_dataset(self, version: str, parent: str | None) -> None:
        manifest = {
            "version": version,
            "parent": parent,
            "demo": False,
            "created_at": "2026-10-30T08:00:00Z",
            "rows": 1384,
            "rows_with_image": 593,
            "sha256": f"sha of {version}",
            "ingest_id": f"ingest of {version}",
        }
        write_json(self.data / "datasets" / version / "manifest.json", manifest)

    def move(self, version: str, after: timedelta) -> None:
        move = PromotionRow(move_id=str(after), version=version, moved_by="jane", moved_at=START + after, reason="ok")
        with writing(self.engine) as session:
            session.add(move)

    def drop_predictions(self) -> None:
        with self.engine.begin() as connection:
            connection.exec_driver_sql("DROP TABLE feedback")
            connection.exec_driver_sql("DROP TABLE predictions")


def write_json(path: Path, document: dict[str, Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(document))


@pytest.fixture
def shop(engine: Engine, tmp_path: Path) -> Shop:
    made = Shop(tmp_path / "models", tmp_path / "data", engine)
    made.write_dataset(OLD_DATA, None)
    made.write_dataset(NEW_DATA, OLD_DATA)
    made.write_bundle(FIRST, OLD_DATA, None)
    made.write_bundle(SECOND, NEW_DATA, FIRST)
    made.move(FIRST, timedelta(hours=0))
    made.move(SECOND, timedelta(hours=1))
    write_champion(made.models, Champion.promoted(SECOND, "jane", "ok", (FIRST,), FIRST))
    marker = {"store": "sqlite:///data/mlflow.db rayonnage rayonnage", "run_id": "run-2", "registry_version": "2"}
    Markers(made.models, "mlflow").write(SECOND, marker)
    said = (2583, 0.97, "accept", 2582, 0.5, None, None, 11.8)
    fields = ("Piscine", None, "sku-1", True, "sha of a photo", *said)
    insert_predictions(engine, [LoggedPrediction(PREDICTION, time.time(), SECOND, "john", "request-1", *fields)])
    return made


def test_a_prediction_is_shown_with_its_feedback(shop: Shop) -> None:
    answer = shop.lineages.trace(PREDICTION).answer
    assert answer is not None and answer.feedback is None

    given = store_feedback(shop.engine, PREDICTION, 1160, username="jane", demo=False)
    mark_ingested(shop.engine, labelled_products(shop.engine, demo=False, limit=1), NEW_DATA)

    answer = shop.lineages.trace(PREDICTION).answer
    assert answer is not None and given is not None
    assert answer.feedback == Truth(1160, "jane", given.given_at, NEW_DATA)


def test_a_prediction_leads_to_the_code_and_the_products_behind_it(shop: Shop) -> None:
    found = shop.lineages.trace(PREDICTION)

    answer, model = found.answer, found.model
    assert answer is not None and model is not None and model.provenance is not None
    assert (answer.username, answer.category_id, answer.decision) == ("john", 2583, "accept")
    assert (answer.text, answer.image) == (Guess(2582, 0.5), None)
    assert (model.version, model.champion, model.missing) == (SECOND, True, None)
    assert model.champion_periods == (ChampionPeriod(START + timedelta(hours=1), None, "jane", "ok"),)
    assert model.run == Run("run-2", "2", "sqlite:///data/mlflow.db rayonnage rayonnage")
    made = model.provenance
    manifest = (shop.models / SECOND / "manifest.json").read_bytes()
    assert made.manifest_sha256 == hashlib.sha256(manifest).hexdigest()
    assert made.metrics == {"rows": 206, "accuracy": 0.9, "f1_weighted": 0.8}
    assert (made.code_version, made.libraries, made.submitted_by) == ("2f054eb", {"numpy": "2.4.6"}, "claire")
    assert (made.dataset.version, made.dataset.rows, made.dataset.ingest_id) == (
        NEW_DATA,
        1384,
        f"ingest of {NEW_DATA}",
    )
    assert made.dataset.parent is not None and made.dataset.parent.version == OLD_DATA
    assert made.dataset.parent.parent is None


def test_an_id_in_small_letters_is_found_too(shop: Shop) -> None:
    assert shop.lineages.trace(PREDICTION.lower()) == shop.lineages.trace(PREDICTION)


def test_a_model_leads_to_the_one_that_it_kept_a_part_of(shop: Shop) -> None:
    provenance = shop.model(SECOND).provenance
    assert provenance is not None and provenance.base is not None
    base = provenance.base
    assert (base.version, base.champion, base.run) == (FIRST, False, None)
    assert base.champion_periods == (ChampionPeriod(START, START + timedelta(hours=1), "jane", "ok"),)
    assert base.provenance is not None and base.provenance.dataset.version == OLD_DATA


def test_a_dataset_leads_to_its_parents_and_to_the_models_made_of_it(shop: Shop) -> None:
    found = shop.lineages.trace(NEW_DATA)
    assert found.dataset is not None and found.dataset.parent is not None
    assert (found.dataset.version, found.dataset.parent.version) == (NEW_DATA, OLD_DATA)
    assert found.trained == (SECOND,)


# Parts that are gone


def test_of_a_pruned_bundle_its_champion_period_and_its_run_are_left(shop: Shop) -> None:
    shutil.rmtree(shop.models / SECOND)
    model = shop.lineages.trace(PREDICTION).model
    assert model is not None and model.provenance is None
    assert model.missing == "no longer on this volume"
    assert model.run is not None and model.champion_periods
    assert shop.model(SECOND) == model


def test_a_pruned_bundle_that_dvc_has_says_how_to_get_it(shop: Shop) -> None:
    shutil.rmtree(shop.models / FIRST)
    (shop.models / f"{FIRST}.dvc").touch()
    assert "rayonnage pull" in (shop.model(FIRST).missing or "")


def test_of_a_pruned_dataset_is_left_what_the_bundle_knows(shop: Shop) -> None:
    shutil.rmtree(shop.data / "datasets" / NEW_DATA)
    provenance = shop.model(SECOND).provenance
    assert provenance is not None
    assert (provenance.dataset.sha256, provenance.dataset.demo) == (f"sha of {NEW_DATA}", False)
    assert provenance.dataset.missing and provenance.dataset.parent is None
    assert shop.lineages.trace(NEW_DATA).trained == (SECOND,)


def test_a_pruned_parent_ends_the_chain(shop: Shop) -> None:
    shutil.rmtree(shop.data / "datasets" / OLD_DATA)
    dataset = shop.lineages.trace(NEW_DATA).dataset
    assert dataset is not None and dataset.missing is None
    assert dataset.parent is not None and dataset.parent.missing == "no longer on this volume"


def test_a_dataset_that_is_not_what_was_trained_on_is_marked(shop: Shop) -> None:
    path = shop.data / "datasets" / NEW_DATA / "manifest.json"
    path.write_text(path.read_text().replace(f"sha of {NEW_DATA}", "another"))
    provenance = shop.model(SECOND).provenance
    assert provenance is not None
    assert provenance.dataset.sha256 == f"sha of {NEW_DATA}"
    assert "another" in (provenance.dataset.missing or "")


@pytest.mark.parametrize("content", ["", '{"format": 1}', '{"format": 9}'])
def test_a_damaged_manifest_is_named_and_the_rest_shown(shop: Shop, content: str) -> None:
    (shop.models / SECOND / "manifest.json").write_text(content)
    model = shop.model(SECOND)
    assert model.provenance is None and "damaged" in (model.missing or "")
    assert model.run is not None


def test_models_that_name_each_other_end_the_chain(shop: Shop) -> None:
    shop.write_bundle(FIRST, OLD_DATA, SECOND)
    provenance = shop.model(SECOND).provenance
    assert provenance is not None and provenance.base is not None and provenance.base.provenance is not None
    assert provenance.base.provenance.base is None


@pytest.fixture
def nobody_there() -> Iterator[Engine]:
    opened = open_database("postgresql://nobody@127.0.0.1:9/rayonnage", wait_s=1)
    yield opened
    opened.dispose()


def test_without_the_database_a_model_is_described_and_a_prediction_is_not(shop: Shop, nobody_there: Engine) -> None:
    lineages = Lineages(shop.models, shop.data, nobody_there)
    model = lineages.trace(SECOND).model
    assert model is not None and model.champion_periods is None and model.champion and model.provenance is not None
    with pytest.raises(LogUnreadable, match="refused"):
        lineages.trace(PREDICTION)


def test_before_the_log_has_its_table_a_prediction_is_not_found_and_the_message_says_why(shop: Shop) -> None:
    shop.drop_predictions()
    with pytest.raises(LogUnreadable, match="predictions"):
        shop.lineages.trace(PREDICTION)


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("01M7YGVQFEDD7NF6F00ZAHT89B", "PREDICTION_LOG_DAYS"),
        ("20261101T080000Z-cccc", "no model and no dataset"),
        ("../../etc/passwd", "is not a prediction id"),
        ("x" * 5000, "is not a prediction id"),
    ],
)
def test_what_is_unknown_is_named_in_one_sentence(shop: Shop, name: str, said: str) -> None:
    with pytest.raises(UnknownToLineage, match=said) as found:
        shop.lineages.trace(name)
    assert len(found.value.detail) < 200


def test_a_broken_champion_pointer_and_a_damaged_marker_leave_the_rest(shop: Shop) -> None:
    (shop.models / "champion.json").write_text("garbage{")
    Markers(shop.models, "mlflow").write(SECOND, {"run_id": "run-2"})

    model = shop.model(SECOND)

    assert (model.champion, model.run) == (False, None)
    assert model.provenance is not None


def test_a_broken_bundle_does_not_hide_what_else_a_dataset_trained(shop: Shop) -> None:
    shop.write_bundle(FIRST, NEW_DATA, None)
    (shop.models / FIRST / "manifest.json").write_text("[]")
    assert shop.lineages.trace(NEW_DATA).trained == (SECOND,)
