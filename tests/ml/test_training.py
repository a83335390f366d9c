"""A bundle from dataset to champion, on a part of the sample catalogue."""

from __future__ import annotations

import csv
import json
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sqlalchemy import Engine
from sqlmodel import select

from rayonnage_shared.core.errors import BadInput
from rayonnage_shared.database.engine import migrate, open_database, reading
from rayonnage_shared.database.tables import PromotionRow
from rayonnage_shared.ml.base.categories import load_categories
from rayonnage_shared.ml.base.model import Fitting, ProductText
from rayonnage_shared.ml.base.progress import silent
from rayonnage_shared.ml.bundles.bundle import load_bundle
from rayonnage_shared.ml.bundles.champion import Champion, read_champion, write_champion
from rayonnage_shared.ml.bundles.manifest import (
    BundleBroken,
    ThresholdChoice,
    hash_files,
    list_versions,
    read_manifest,
)
from rayonnage_shared.ml.catalogue.datasets import DatasetNotFound, DatasetStore
from rayonnage_shared.ml.catalogue.ingestion.ingest import ingest
from rayonnage_shared.ml.evaluation.plot_files import plot_names
from rayonnage_shared.ml.evaluation.report import flat_metrics, read_report
from rayonnage_shared.ml.evaluation.saved_predictions import predictions_path
from rayonnage_shared.ml.families.text.tfidf_svm import TfidfSvm
from rayonnage_shared.ml.features import photo_features
from rayonnage_shared.ml.features.photo_features import read_photo_file
from rayonnage_shared.ml.training.held_out import HeldOut
from rayonnage_shared.ml.training.requests import SearchRequest, TrainRequest
from rayonnage_shared.pipelines.run_context import RunContext
from rayonnage_shared.pipelines.search import search_and_train
from rayonnage_shared.pipelines.settings import PipelineSettings
from rayonnage_shared.pipelines.training import evaluate_version, train
from rayonnage_shared.predictions.inference import predict_catalogue
from rayonnage_shared.registry.promotion import NothingToRollBackTo, promote, record_champion, rollback
from rayonnage_shared.registry.retention import prune, prune_bundles
from tests.sample import write_first_rows

SAMPLE = Path(__file__).parents[2] / "data" / "sample"
ROWS = 500
TEXT_ONLY: dict[str, Any] = {"text": "tfidf-svm", "image": None}

Pipeline = Callable[[RunContext[PipelineSettings]], dict[str, Any]]


class Killed(BaseException):
    """Stands for kill -9: nothing in the product may catch it."""


@dataclass
class Shop:
    """One platform's folders and database, without its processes."""

    settings: PipelineSettings
    engine: Engine
    stages: list[str] = field(default_factory=list)
    progress: list[float] = field(default_factory=list)

    def train(self, job_id: str = "job-1", die_in: str | None = None, **request: Any) -> dict[str, Any]:
        wanted = TrainRequest.model_validate({**TEXT_ONLY, **request})
        return self.run(job_id, partial(train, wanted), die_in)

    def run(self, job_id: str, work_on: Pipeline, die_in: str | None = None) -> dict[str, Any]:
        def stage(name: str) -> None:
            if name == die_in:
                raise Killed
            self.stages.append(name)

        return work_on(
            RunContext(
                settings=self.settings,
                engine=self.engine,
                job_id=job_id,
                submitted_by="jane",
                stage=stage,
                progress=lambda fraction, _message: self.progress.append(fraction),
            )
        )

    def champion(self) -> str | None:
        champion = read_champion(self.settings.models_path)
        return champion.version if champion else None

    def moves(self) -> list[str]:
        with reading(self.engine) as session:
            return [row.version for row in session.exec(select(PromotionRow).order_by("moved_at"))]


@pytest.fixture(scope="module")
def data_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A data folder with the first rows of the sample and their photos."""
    folder = write_first_rows(tmp_path_factory.mktemp("sample"), ROWS)
    ingest(
        DatasetStore(folder / "data"),
        folder / "features.csv",
        folder / "target.csv",
        folder / "images.zip",
        allow_new_codes=False,
        demo=False,
        categories=load_categories(None),
    )
    return folder / "data"


@contextmanager
def open_shop(folder: Path, data_path: Path) -> Iterator[Shop]:
    engine = open_database(f"sqlite:///{folder}/rayonnage.db")
    migrate(engine)
    yield Shop(PipelineSettings(models_path=folder / "models", data_path=data_path), engine)
    engine.dispose()


@pytest.fixture
def empty_shop(data_path: Path, tmp_path: Path) -> Iterator[Shop]:
    """A shop with products and without a model."""
    with open_shop(tmp_path, data_path) as opened:
        yield opened


@dataclass(frozen=True)
class Trained:
    """A shop in which two equal bundles were trained, and what came back."""

    folder: Path
    data_path: Path
    first: dict[str, Any]
    second: dict[str, Any]


@pytest.fixture(scope="module")
def trained(data_path: Path, tmp_path_factory: pytest.TempPathFactory) -> Trained:
    folder = tmp_path_factory.mktemp("trained")
    with open_shop(folder, data_path) as shop:
        return Trained(folder, data_path, shop.train(), shop.train("job-2"))


@pytest.fixture
def shop(trained: Trained, tmp_path: Path) -> Iterator[Shop]:
    """A copy of the shop with two bundles, the first of them the champion."""
    shutil.copytree(trained.folder, tmp_path, dirs_exist_ok=True)
    with open_shop(tmp_path, trained.data_path) as opened:
        yield opened


def test_the_first_bundle_is_promoted_and_predicts(shop: Shop, trained: Trained) -> None:
    result = trained.first

    assert result["promoted"]
    assert shop.champion() == result["version"]
    assert shop.moves() == [result["version"]]
    assert result["metrics"]["f1_weighted"] > 0.6
    bundle = load_bundle(shop.settings.models_path, result["version"])
    outcome = bundle.predict(ProductText("Piscine gonflable ronde", ""), None)
    assert outcome.probabilities.sum() == pytest.approx(1, abs=1e-5)
    assert outcome.image is None


def test_an_equal_challenger_stays_a_candidate_and_says_why(shop: Shop, trained: Trained) -> None:
    first, second = trained.first, trained.second

    assert not second["promoted"]
    assert "not significantly better" in second["reason"]
    assert shop.champion() == first["version"]


@pytest.mark.parametrize("stage", ["text", "evaluate", "bundle", "promote"])
def test_a_training_killed_in_any_stage_ends_once(empty_shop: Shop, stage: str) -> None:
    shop = empty_shop
    with pytest.raises(Killed):
        shop.train(die_in=stage)
    finished_before = list(shop.stages)
    shop.stages.clear()

    result = shop.train()

    assert shop.champion() == result["version"]
    assert list_versions(shop.settings.models_path) == [result["version"]]
    assert shop.moves() == [result["version"]]
    assert not {"plan", "text", "fusion", "evaluate"} & set(shop.stages) & set(finished_before)


def test_a_training_that_is_repeated_after_its_end_changes_nothing(shop: Shop, trained: Trained) -> None:
    again = shop.train()

    assert again["version"] == trained.first["version"]
    assert shop.moves() == [trained.first["version"]]


def test_training_one_modality_keeps_the_other(shop: Shop, trained: Trained) -> None:
    text = trained.first

    both = shop.train("job-3", text=None, image="efficientnet-lite0", promote="always")

    kept, made = (read_manifest(shop.settings.models_path, one["version"]) for one in (text, both))
    assert made.families.model_dump() == {"text": "tfidf-svm", "image": "efficientnet-lite0", "fusion": "weighted"}
    assert made.base_version == text["version"]
    for name, digest in kept.files.items():
        if name.startswith("text/"):
            assert made.files[name] == digest
    assert made.models["text"] == kept.models["text"], "how the model came about comes along"
    assert made.models.keys() == {"text", "image", "fusion"}
    report = read_report(shop.settings.models_path / both["version"])
    assert report is not None and report.disagreement is not None
    assert report.disagreement.differing.rows + report.disagreement.agreeing.rows == report.disagreement.rows
    assert [one.mode for one in report.timing] == ["text", "image", "both"]
    assert shop.progress == sorted(shop.progress), "progress is that of the whole training"
    assert shop.progress[0] == 0
    assert shop.progress[-1] == pytest.approx(0.95)
    assert {curve.modality for curve in report.curves} == {"text", "image"}
    bundle = load_bundle(shop.settings.models_path, both["version"])
    grey = np.full((224, 224, 3), 128, dtype=np.uint8)
    for product in ((ProductText("Console", ""), grey), (ProductText("Console", ""), None), (None, grey)):
        assert bundle.predict(*product).probabilities.sum() == pytest.approx(1, abs=1e-5)


def test_a_head_on_both_models_features_is_trained_and_then_kept_up(
    shop: Shop, trained: Trained, monkeypatch: pytest.MonkeyPatch
) -> None:
    # On so few products a head of a fixed penalty is no better than text; this is about how it is trained.
    monkeypatch.setattr("rayonnage_shared.ml.training.run.part_instead_of_fusion", lambda *tables: None)
    asked: dict[str, Any] = {"text": None, "image": "efficientnet-lite0", "fusion": "concatenate"}
    asked |= {"promote": "always", "parameters": {"fusion.penalty": 0.1}}
    with pytest.raises(Killed):
        shop.train("job-4", die_in="fusion", **asked)
    waiting = shop.settings.models_path / ".work" / "job-4" / "features"
    assert (waiting / "image.npy").stat().st_size > 0
    made = shop.train("job-4", **asked)
    kept = shop.train("job-5", promote="always", parameters={"penalty": 0.4})

    for one in (made, kept):
        manifest = read_manifest(shop.settings.models_path, one["version"])
        assert manifest.families.fusion == manifest.models["fusion"].family == "concatenate"
        rows = manifest.models["fusion"].facts["rows"]
        assert isinstance(rows, int) and rows > 100
        assert one["metrics"]["f1_weighted"] > trained.first["metrics"]["f1_weighted"] - 0.02
        bundle = load_bundle(shop.settings.models_path, one["version"])
        grey = np.full((224, 224, 3), 128, dtype=np.uint8)
        for product in ((ProductText("Console", ""), grey), (ProductText("Console", ""), None), (None, grey)):
            assert bundle.predict(*product).probabilities.sum() == pytest.approx(1, abs=1e-5)


def test_a_fusion_parameter_out_of_its_range_is_refused_before_anything_is_fitted(empty_shop: Shop) -> None:
    with pytest.raises(BadInput, match="dropout"):
        empty_shop.train(fusion="concatenate", image="efficientnet-lite0", parameters={"fusion.dropout": 2.0})

    assert "text" not in empty_shop.stages


def test_a_changed_file_is_found_out(shop: Shop, trained: Trained) -> None:
    version = trained.second["version"]
    path = shop.settings.models_path / version / "decisions.json"
    path.write_text(path.read_text().replace("0.95", "0.10"))

    with pytest.raises(BundleBroken, match=r"decisions\.json"):
        load_bundle(shop.settings.models_path, version)


def test_promotion_and_rollback_leave_a_trail(shop: Shop, trained: Trained) -> None:
    models, engine = shop.settings.models_path, shop.engine
    first, second = trained.first["version"], trained.second["version"]

    promote(models, engine, second, "jane", "trying it")
    moved = rollback(models, engine, "john", "it was worse")

    assert (moved.version, moved.previous) == (first, second)
    assert shop.champion() == first
    assert shop.moves() == [first, second, first]
    with pytest.raises(NothingToRollBackTo):
        rollback(models, engine, "john", "once more")


def test_a_broken_bundle_is_not_promoted(shop: Shop, trained: Trained) -> None:
    first, second = trained.first["version"], trained.second["version"]
    (shop.settings.models_path / second / "text" / "linear.npz").write_bytes(b"")

    with pytest.raises(BundleBroken):
        promote(shop.settings.models_path, shop.engine, second, "jane", "careless")

    assert shop.champion() == first


def test_a_move_whose_audit_row_was_lost_is_written_later(shop: Shop, trained: Trained) -> None:
    first, second = trained.first["version"], trained.second["version"]
    write_champion(shop.settings.models_path, Champion.promoted(second, "jane", "crashed here", (first,), first))

    record_champion(shop.settings.models_path, shop.engine)

    assert shop.moves() == [first, second]


def test_old_bundles_go_but_never_the_champion(shop: Shop, trained: Trained) -> None:
    models = shop.settings.models_path
    champion, candidate = trained.first["version"], trained.second["version"]

    assert prune_bundles(models, 1) == []
    promote(models, shop.engine, candidate, "jane", "newer")
    write_champion(models, Champion.promoted(candidate, "jane", "nothing to roll back to"))

    assert prune_bundles(models, 1) == [champion]
    assert list_versions(models) == [candidate]


def test_predictions_go_with_their_bundle(shop: Shop, trained: Trained, tmp_path: Path) -> None:
    old, new = trained.first["version"], trained.second["version"]
    store = DatasetStore(tmp_path / "data-of-its-own")
    paths = {version: predictions_path(store.data_path, version) for version in (old, new)}
    for path in paths.values():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    write_champion(shop.settings.models_path, Champion.promoted(new, "jane", "nothing to roll back to"))

    prune(shop.settings.models_path, store, bundles_kept=1, datasets_kept=1)

    assert {version: path.exists() for version, path in paths.items()} == {old: False, new: True}


def test_a_bundle_brings_its_report_pictures_and_predictions(shop: Shop, trained: Trained) -> None:
    version = trained.first["version"]
    folder = shop.settings.models_path / version

    report = read_report(folder)
    manifest = read_manifest(shop.settings.models_path, version)

    assert report is not None
    metrics = manifest.metrics
    assert metrics == flat_metrics(report)
    assert plot_names(manifest) == ["calibration", "classes", "confusion", "learning_text", "selective"]
    (curve,) = report.curves
    assert (curve.modality, curve.figure, curve.axis, len(curve.x)) == ("text", "f1_weighted", "rows", 3)
    assert curve.x == sorted(curve.x)
    (timing,) = report.timing
    assert timing.mode == "text"
    assert 0 < timing.median_ms <= timing.p95_ms
    assert [one.promised for one in report.selective.test] == [0.9, 0.95, 0.99]
    assert {one.mode for one in report.selective.test} == {"text"}
    assert len(report.selective.held_out) == 3
    assert manifest.thresholds == ThresholdChoice(method="learn-then-test", confidence=0.9)
    model = manifest.models["text"]
    assert (model.family, model.parameters["penalty"]) == ("tfidf-svm", 0.5)
    assert model.seconds is not None and model.seconds > 0
    assert report.train_seconds == {"text": model.seconds}
    with predictions_path(shop.settings.data_path, version).open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == report.test.rows
    right = sum(row["truth"] == row["predicted"] for row in rows)
    assert right / len(rows) == pytest.approx(report.test.accuracy)
    assert sum(row["decision"] == "accept" for row in rows) / len(rows) == pytest.approx(report.test.accepted)


def test_evaluation_leaves_out_what_was_trained_on(shop: Shop, trained: Trained) -> None:
    result = trained.first
    store = DatasetStore(shop.settings.data_path)

    found = evaluate_version(
        result["version"], models_path=shop.settings.models_path, store=store, dataset_version=None
    )

    assert found.test.rows == int((store.load(found.dataset_version).splits == "test").sum())
    assert found == read_report(shop.settings.models_path / result["version"]), "the same rows give the same report"


def test_a_bundle_from_before_there_were_reports_serves_and_is_evaluated(shop: Shop, trained: Trained) -> None:
    version, models = trained.first["version"], shop.settings.models_path
    make_old(models / version)

    bundle = load_bundle(models, version)
    found = evaluate_version(
        version, models_path=models, store=DatasetStore(shop.settings.data_path), dataset_version=None
    )

    assert bundle.predict(ProductText("Piscine gonflable ronde", ""), None).probabilities.sum() == pytest.approx(1)
    assert found.test.f1_weighted == pytest.approx(trained.first["metrics"]["f1_weighted"], abs=1e-6)
    assert (found.curves, found.timing, found.selective.held_out, found.selective.test) == ([], [], [], [])


def make_old(folder: Path) -> None:
    """Take from a bundle what bundles did not have once."""
    for part in ("figures", "promises"):
        shutil.rmtree(folder / part)
    (folder / "text.facts.json").unlink()
    (folder / "evaluation.json").write_text(json.dumps({"rows": 3, "accuracy": 1.0, "confusion": []}))
    manifest = json.loads((folder / "manifest.json").read_text())
    del manifest["models"]
    (folder / "manifest.json").write_text(json.dumps({**manifest, "files": hash_files(folder)}))


def test_a_whole_catalogue_is_predicted_row_by_row(shop: Shop, trained: Trained, tmp_path: Path) -> None:
    bundle = load_bundle(shop.settings.models_path, trained.first["version"])
    path = tmp_path / "products.csv"
    rows_in = ['Piscine gonflable,"deux\nlignes",1,10', ",,2,20", "Console portable,,3,30"]
    path.write_text("\n".join(["designation,description,productid,imageid", *rows_in, ""]), encoding="utf-8-sig")

    rows = list(predict_catalogue(bundle, load_categories(None), path, None))

    assert [row["line"] for _, row in rows] == [3, 4, 5]
    assert [row["productid"] for _, row in rows] == ["1", "2", "3"]
    assert [bool(row["error"]) for _, row in rows] == [False, True, False]
    assert rows[0][1]["prdtypecode"] in bundle.codes
    assert [round(share, 2) for share, _ in rows] == [0.33, 0.67, 1.0]


def test_a_photo_is_embedded_once_by_trainings_gate_and_reports(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    store = DatasetStore(shop.settings.data_path)
    store.photo_features_path.unlink(missing_ok=True)
    embedded: list[Path] = []

    def noting(photo: Path, size: int) -> Any:
        embedded.append(photo)
        return read_photo_file(photo, size)

    monkeypatch.setattr(photo_features, "read_photo_file", noting)
    first = shop.train("job-8", text=None, image="efficientnet-lite0", promote="always")
    products = store.load(read_manifest(shop.settings.models_path, first["version"]).dataset.version)
    photos = {store.photo_path(photo) for photo in products.photos if photo is not None}
    assert len(embedded) == len(photos)
    assert set(embedded) == photos
    embedded.clear()

    second = shop.train("job-9", text=None, image="efficientnet-lite0", fusion="concatenate")
    evaluate_version(
        second["version"], models_path=shop.settings.models_path, store=store, dataset_version=None, progress=silent
    )

    assert embedded == []
    tables = [
        HeldOut.load(shop.settings.models_path / one["version"] / "image.held_out.npz") for one in (first, second)
    ]
    np.testing.assert_array_equal(tables[0].rows(tables[0].ids), tables[1].rows(tables[0].ids))


def test_a_search_trains_with_what_it_found(shop: Shop, trained: Trained) -> None:
    request = SearchRequest(text="tfidf-svm", trials=2, fixed={"character_scale": 1.4, "balance": 0.5}, promote="never")

    result = shop.run("job-5", partial(search_and_train, request))

    found = result["search"]
    assert len(found["trials"]) == 2
    assert found["value"] >= found["value_of_defaults"]
    manifest = read_manifest(shop.settings.models_path, result["version"])
    assert manifest.parameters == found["parameters"]
    assert shop.stages[0] == "search"
    assert shop.progress == sorted(shop.progress), "progress is that of the search and its training together"
    assert shop.progress[-1] > 0.9


def test_a_search_finds_pretrained_weights_where_a_training_does(shop: Shop, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Path | None] = []
    fit = TfidfSvm.fit.__func__  # type: ignore[attr-defined]

    def noting(cls: type[TfidfSvm], texts: Any, labels: Any, fitting: Fitting) -> Any:
        asked.append(fitting.pretrained)
        return fit(cls, texts, labels, fitting)

    monkeypatch.setattr(TfidfSvm, "fit", classmethod(noting))
    request = SearchRequest(text="tfidf-svm", trials=1, train=False)
    shop.run("job-7", partial(search_and_train, request))

    assert asked == [shop.settings.models_path / ".pretrained"]


def test_an_empty_platform_says_what_is_missing(tmp_path: Path) -> None:
    with open_shop(tmp_path, tmp_path / "nothing") as shop, pytest.raises(DatasetNotFound, match="ingest labelled"):
        shop.train()


def test_unknown_parameters_are_refused(empty_shop: Shop) -> None:
    with pytest.raises(BadInput):
        empty_shop.train(parameters={"text.colour": 3})
