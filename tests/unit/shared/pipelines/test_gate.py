"""Whether a new bundle is promoted where the champion cannot be compared with."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from rayonnage_shared.ml.base.categories import Categories
from rayonnage_shared.ml.bundles.champion import POINTER_NAME, Champion, write_champion
from rayonnage_shared.ml.bundles.manifest import DatasetReference
from rayonnage_shared.ml.catalogue.datasets import DatasetStore
from rayonnage_shared.ml.catalogue.ingestion.ingest import ingest
from rayonnage_shared.ml.evaluation.gate import Verdict
from rayonnage_shared.ml.training.held_out import HeldOut
from rayonnage_shared.ml.training.requests import PromotePolicy
from rayonnage_shared.pipelines.settings import PipelineSettings
from rayonnage_shared.pipelines.training import compare_with_champion, unseen_test_rows
from tests.unit.shared.ml.bundles.manifests import write_loadable_bundle
from tests.unit.shared.ml.catalogue.catalogues import many_rows, write_csv

OLD, NEW = "20261120T081500Z-0001", "20261121T081500Z-0002"
LATEST = "29991231T081500Z-0003"  # whose training begins after every ingest
CATEGORIES = Categories((10, 40), {10: "a", 40: "b"})


@pytest.fixture
def models(tmp_path: Path) -> Path:
    """A volume with a champion and a newer bundle."""
    for version in (OLD, NEW):
        write_loadable_bundle(tmp_path, version)
    write_champion(tmp_path, Champion.promoted(OLD, "jane", "first"))
    return tmp_path


def verdict(models: Path, policy: PromotePolicy, *, allow_older_data: bool = False) -> Verdict:
    settings = PipelineSettings(models_path=models, data_path=models / "data")
    return compare_with_champion(NEW, policy, settings, allow_older_data=allow_older_data)


def dataset(models: Path, rows: int, *, demo: bool = False) -> DatasetReference:
    """Ingest the first `rows` products, and return the dataset version that there is now."""
    store = DatasetStore(models / "data")
    products = write_csv(models / "features.csv", many_rows(rows))
    ingest(store, products, None, None, categories=CATEGORIES, demo=demo)
    pointers = store.pointers()
    found = store.describe(str(pointers.demo if demo else pointers.real))
    return DatasetReference(version=found.version, sha256=found.sha256, demo=demo)


def bundle(models: Path, version: str, trained_on: DatasetReference) -> None:
    """Write a bundle that saw the training rows of a dataset."""
    products = DatasetStore(models / "data").load(trained_on.version)
    seen = [one for one, split in zip(products.ids, products.splits, strict=True) if split == "train"]
    folder = models / version
    folder.mkdir(exist_ok=True)
    HeldOut(seen, np.full((len(seen), 2), 0.5, np.float32), (10, 40)).save(folder / "text.held_out.npz")
    write_loadable_bundle(models, version, dataset=trained_on.model_dump())


def test_both_are_compared_on_the_newest_dataset_where_neither_was_trained(models: Path) -> None:
    older = dataset(models, 40)
    bundle(models, OLD, older)
    bundle(models, LATEST, older)
    newest = dataset(models, 400)
    test = (DatasetStore(models / "data").load(newest.version).splits == "test").sum()

    found = compare_with_champion(
        LATEST, "if_better", PipelineSettings(models_path=models, data_path=models / "data", gate_class_margin=0.05)
    )

    assert "was trained on dataset" in found.reason, "a newer dataset was there when the training began"
    bundle(models, LATEST, newest)
    found = compare_with_champion(
        LATEST, "if_better", PipelineSettings(models_path=models, data_path=models / "data", gate_class_margin=0.05)
    )
    assert found.rows == test > 50
    assert found.reason.endswith(f"; compared on dataset {newest.version}")


def test_rows_that_either_was_trained_on_do_not_count(models: Path) -> None:
    products = DatasetStore(models / "data").load(dataset(models, 100).version)
    test = [one for one, split in zip(products.ids, products.splits, strict=True) if split == "test"]
    for version, some in ((OLD, test[:2]), (NEW, test[1:5])):
        HeldOut(some, np.full((len(some), 2), 0.5, np.float32), (10, 40)).save(models / version / "text.held_out.npz")

    left = unseen_test_rows(products, models / OLD, models / NEW)

    assert left.ids == test[5:] != []


@pytest.mark.parametrize("champion", [True, False])
def test_a_model_of_the_demo_catalogue_is_not_promoted_where_there_are_real_products(
    models: Path, champion: bool
) -> None:
    demo, real = dataset(models, 30, demo=True), dataset(models, 40)
    bundle(models, OLD, real)
    bundle(models, NEW, demo)
    if not champion:
        (models / POINTER_NAME).unlink()

    assert not verdict(models, "if_better").promote
    refused = verdict(models, "always")
    assert not refused.promote
    assert f"{NEW} was trained on the demo catalogue" in refused.reason and "`allow_older_data: true`" in refused.reason
    allowed = verdict(models, "always", allow_older_data=True)
    assert allowed.promote
    assert "although 20261121T081500Z-0002 was trained on the demo catalogue" in allowed.reason
    assert not verdict(models, "if_better", allow_older_data=True).promote


def test_a_model_of_an_older_dataset_than_the_champions_is_not_promoted(models: Path) -> None:
    older = dataset(models, 30)
    bundle(models, NEW, older)
    bundle(models, OLD, dataset(models, 40))

    assert not verdict(models, "if_better").promote
    assert f"was trained on dataset {older.version}, the champion on the newer" in verdict(models, "always").reason
    assert verdict(models, "always", allow_older_data=True).promote


def test_a_first_model_of_the_demo_catalogue_is_promoted(models: Path) -> None:
    bundle(models, NEW, dataset(models, 30, demo=True))
    (models / POINTER_NAME).unlink()
    assert verdict(models, "if_better").promote


def test_a_model_for_real_products_replaces_one_of_the_demo_catalogue(models: Path) -> None:
    bundle(models, OLD, dataset(models, 30, demo=True))
    bundle(models, NEW, dataset(models, 40))
    assert verdict(models, "if_better").promote


@pytest.mark.parametrize(("policy", "promoted"), [("if_better", False), ("always", True), ("never", False)])
def test_a_broken_pointer_is_only_replaced_on_demand(models: Path, policy: PromotePolicy, promoted: bool) -> None:
    (models / POINTER_NAME).write_text("garbage{")
    assert verdict(models, policy).promote is promoted


@pytest.mark.parametrize(("policy", "promoted"), [("if_better", False), ("always", True), ("never", False)])
def test_a_champion_that_cannot_be_loaded_is_only_replaced_on_demand(
    models: Path, policy: PromotePolicy, promoted: bool
) -> None:
    (models / OLD / "manifest.json").write_text("{")
    assert verdict(models, policy).promote is promoted


def test_the_reason_says_what_is_broken(models: Path) -> None:
    (models / OLD / "manifest.json").write_text("{")
    assert f"Bundle {OLD} has no valid manifest" in verdict(models, "if_better").reason
    (models / POINTER_NAME).write_text("garbage{")
    assert "champion.json is not valid" in verdict(models, "if_better").reason
