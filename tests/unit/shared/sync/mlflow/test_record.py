"""What MLflow is told of a bundle."""

from __future__ import annotations

import json
import math
from datetime import datetime
from pathlib import Path

import pytest

from rayonnage_shared.ml.bundles.manifest import BundleBroken
from rayonnage_shared.ml.catalogue.datasets import DatasetStore
from rayonnage_shared.sync.mlflow.record import BundleRecord, bundle_record
from tests.unit.shared.ml.bundles.manifests import write_bundle

FIRST = "20261121T081500Z-0001"


def record(folder: Path) -> BundleRecord:
    return bundle_record(folder, DatasetStore(folder.parent / "no-data"))


def metrics(found: BundleRecord) -> dict[str, float]:
    return {point.name: point.value for point in found.points}


def test_parameters_are_those_that_were_asked_for(tmp_path: Path) -> None:
    params = record(write_bundle(tmp_path, FIRST)).params

    assert params == {"text_family": "tfidf-svm", "seed": "7", "promised_precision": "0.95", "text.penalty": "2.0"}


def test_parameters_and_facts_of_each_model_stand_beside_them(tmp_path: Path) -> None:
    models = {
        "text": {"family": "tfidf-svm", "parameters": {"penalty": 2.0, "balance": 0.5}, "seconds": 3.0, "facts": {}},
        "image": {"family": "vgg16", "parameters": {"epochs": 4}, "seconds": None, "facts": {"weights": "none"}},
    }
    families = {"text": "tfidf-svm", "image": "vgg16", "fusion": "weighted"}

    params = record(write_bundle(tmp_path, FIRST, families=families, parameters={}, models=models)).params

    assert {name: value for name, value in params.items() if "." in name} == {
        "text.penalty": "2.0",
        "text.balance": "0.5",
        "image.epochs": "4",
        "image.weights": "none",
    }
    assert (params["image_family"], params["fusion_family"]) == ("vgg16", "weighted")


def test_every_number_in_the_metrics_is_one(tmp_path: Path) -> None:
    given = {"accuracy": 0.9, "text.rows": 80, "nothing": math.nan, "odd (name)": 1}

    found = metrics(record(write_bundle(tmp_path, FIRST, metrics=given)))

    assert found == {"accuracy": 0.9, "text.rows": 80.0, "odd _name_": 1.0}


def test_what_learning_and_predicting_cost_are_metrics(tmp_path: Path) -> None:
    folder = write_bundle(tmp_path, FIRST, metrics={})
    report = {
        "timing": [{"mode": "text", "products": 50, "median_ms": 0.2, "p95_ms": 0.4}],
        "train_seconds": {"text": 3.5, "image": None},
        "bundle_bytes": 1000,
    }
    (folder / "evaluation.json").write_text(json.dumps(report))

    assert metrics(record(folder)) == {
        "one_product.text.median_ms": 0.2,
        "one_product.text.p95_ms": 0.4,
        "train_seconds.text": 3.5,
        "bundle_bytes": 1000.0,
    }


@pytest.mark.parametrize(
    "curves",
    [
        {"text": [{"figure": "loss", "axis": "epochs", "x": [1, 2], "train": [0.9, 0.5], "held_out": [0.8, None]}]},
        [{"modality": "text", "figure": "loss", "x": [1, 2], "train": [0.9, 0.5], "held_out": [0.8, None]}],
    ],
)
def test_learning_curves_are_metrics_with_steps(tmp_path: Path, curves: object) -> None:
    folder = write_bundle(tmp_path, FIRST, metrics={})
    (folder / "evaluation.json").write_text(json.dumps({"curves": curves}))

    points = {(point.name, point.step): point.value for point in record(folder).points}

    assert points == {
        ("curve.text.loss.train", 1): 0.9,
        ("curve.text.loss.train", 2): 0.5,
        ("curve.text.loss.held_out", 1): 0.8,
    }


def test_tags_say_where_it_comes_from(tmp_path: Path) -> None:
    tags = record(write_bundle(tmp_path, FIRST)).tags

    assert tags["rayonnage.version"] == FIRST
    assert tags["rayonnage.dataset_version"] == "20261120T081500Z-aaaa"
    assert tags["rayonnage.dataset_sha256"] == "ab" * 32
    assert tags["rayonnage.demo"] == "false"
    assert (tags["rayonnage.code_version"], tags["rayonnage.submitted_by"]) == ("1.0-dirty", "jane")


def test_a_demo_bundle_says_so_where_people_look(tmp_path: Path) -> None:
    dataset = {"version": "20261120T081500Z-aaaa", "sha256": "ab" * 32, "demo": True}
    found = record(write_bundle(tmp_path, FIRST, dataset=dataset))

    assert found.tags["rayonnage.demo"] == "true"
    assert "demo" in found.description


def test_a_run_lasts_from_the_plan_of_the_training_to_the_complete_bundle(tmp_path: Path) -> None:
    found = record(write_bundle(tmp_path, FIRST, created_at="2026-11-21T08:17:30+00:00"))

    assert found.created_ms - found.started_ms == 150_000
    assert found.created_ms == 1000 * datetime.fromisoformat("2026-11-21T08:17:30+00:00").timestamp()


def test_a_run_never_ends_before_it_starts(tmp_path: Path) -> None:
    found = record(write_bundle(tmp_path, FIRST, created_at="2026-11-20T08:00:00+00:00"))

    assert found.started_ms == found.created_ms


def test_the_description_has_models_figures_dataset_and_how_to_promote(tmp_path: Path) -> None:
    found = record(write_bundle(tmp_path, FIRST, metrics={"accuracy": 0.91234, "f1_macro": 0.8, "rows": 80}))

    assert found.description.splitlines() == [
        "Predicts one of 2 product type codes: text `tfidf-svm`.",
        "",
        "| on the test split | |",
        "|---|---|",
        "| accuracy | 0.912 |",
        "| macro F1 | 0.800 |",
        "",
        "Dataset `20261120T081500Z-aaaa`. Trained by jane with code version 1.0-dirty.",
        "",
        f"Promote it with `rayonnage promote {FIRST}` or `POST /models/{FIRST}/promote`.",
    ]
    assert found.tags["mlflow.note.content"] == found.description


def test_files_and_plots_that_are_there_are_taken_along(tmp_path: Path) -> None:
    folder = write_bundle(tmp_path, FIRST)
    (folder / "figures").mkdir()

    assert [path.name for path in record(folder).artifacts] == ["manifest.json", "figures"]


def test_a_dataset_that_was_pruned_is_known_by_name_and_hash(tmp_path: Path) -> None:
    dataset = record(write_bundle(tmp_path, FIRST)).dataset

    assert (dataset.name, dataset.digest) == ("20261120T081500Z-aaaa", ("ab" * 32)[:36])
    assert json.loads(dataset.profile) == {"demo": False}


def test_a_damaged_manifest_is_an_error_that_the_target_catches(tmp_path: Path) -> None:
    folder = write_bundle(tmp_path, FIRST)
    (folder / "manifest.json").write_text('{"version": ')
    with pytest.raises(BundleBroken, match="not valid JSON"):
        record(folder)
