"""What MLflow is told of a bundle."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest

from rayonnage_shared.ml.datasets import DatasetStore
from rayonnage_shared.tracking.record import BundleRecord, bundle_record
from tests.unit.shared.tracking.bundles import FIRST, write_bundle


def record(folder: Path) -> BundleRecord:
    return bundle_record(folder, DatasetStore(folder.parent / "no-data"))


def metrics(found: BundleRecord) -> dict[str, float]:
    return {point.name: point.value for point in found.points}


def test_parameters_are_those_asked_for_and_the_families_own(tmp_path: Path) -> None:
    found = record(write_bundle(tmp_path, FIRST))

    assert found.params["text_family"] == "tfidf-svm"
    assert found.params["text.penalty"] == "2.0"
    assert "text.balance" in found.params
    assert (found.params["seed"], found.params["promised_precision"]) == ("7", "0.95")


def test_a_kept_modality_does_not_claim_parameters_that_it_may_not_have_had(tmp_path: Path) -> None:
    families = {"text": "tfidf-svm", "image": "efficientnet-lite0", "fusion": "weighted"}
    found = record(write_bundle(tmp_path, FIRST, base_version="x", families=families, parameters={"image.penalty": 3}))

    assert {name for name in found.params if "." in name} == {"image.penalty"}
    assert found.params["image_family"] == "efficientnet-lite0"


def test_a_family_that_this_code_does_not_know_is_named_all_the_same(tmp_path: Path) -> None:
    families = {"text": "of-tomorrow", "image": None, "fusion": None}

    assert record(write_bundle(tmp_path, FIRST, families=families)).params["text_family"] == "of-tomorrow"


def test_every_number_in_the_metrics_is_one(tmp_path: Path) -> None:
    given = {"accuracy": 0.9, "text": {"rows": 80}, "note": "words", "nothing": math.nan, "odd (name)": 1}

    found = metrics(record(write_bundle(tmp_path, FIRST, metrics=given)))

    assert found == {"accuracy": 0.9, "text.rows": 80.0, "odd _name_": 1.0}


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


def test_files_and_figures_that_are_there_are_taken_along(tmp_path: Path) -> None:
    folder = write_bundle(tmp_path, FIRST)
    (folder / "figures").mkdir()

    assert [path.name for path in record(folder).artifacts] == ["manifest.json", "figures"]


def test_a_dataset_that_was_pruned_is_known_by_name_and_hash(tmp_path: Path) -> None:
    dataset = record(write_bundle(tmp_path, FIRST)).dataset

    assert (dataset.name, dataset.digest) == ("20261120T081500Z-aaaa", ("ab" * 32)[:36])
    assert json.loads(dataset.profile) == {"demo": False}


def test_a_damaged_manifest_is_an_error_that_the_follower_knows(tmp_path: Path) -> None:
    folder = write_bundle(tmp_path, FIRST)
    (folder / "manifest.json").write_text('{"version": ')
    with pytest.raises(ValueError, match="Expecting value"):
        record(folder)
