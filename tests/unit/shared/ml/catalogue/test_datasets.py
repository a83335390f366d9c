"""Reading dataset versions."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from rayonnage_shared.ml.base.categories import Categories
from rayonnage_shared.ml.catalogue.datasets import DatasetBroken, DatasetNotFound, DatasetStore
from rayonnage_shared.ml.catalogue.ingestion.ingest import ingest
from rayonnage_shared.ml.catalogue.products import Products
from tests.unit.shared.ml.catalogue.catalogues import many_rows, write_csv


def test_an_empty_folder_has_no_versions(tmp_path: Path) -> None:
    store = DatasetStore(tmp_path)
    assert (store.current(), store.versions()) == (None, [])


@pytest.mark.parametrize("version", ["20260101T000000Z-0000", "../../etc", "current.json", ""])
def test_a_version_that_is_not_there_is_not_found(tmp_path: Path, version: str) -> None:
    with pytest.raises(DatasetNotFound):
        DatasetStore(tmp_path).describe(version)


def test_a_photo_path_is_made_of_hashes_alone(tmp_path: Path) -> None:
    store = DatasetStore(tmp_path)
    assert store.photo_path("ab" * 32) == tmp_path / "photos" / "ab" / f"{'ab' * 32}.jpg"
    with pytest.raises(ValueError, match="sha256"):
        store.photo_path("../secret")


def test_products_are_taken_by_mask_or_by_position() -> None:
    products = Products(
        ids=["a", "b", "c"],
        designations=["Lampe", "Vase", "<b>Table</b>"],
        descriptions=["", "", "d&eacute;co"],
        codes=np.array([1, 2, 3]),
        photos=[None, "p", None],
        splits=np.array(["train", "test", "train"]),
        folds=np.array([0, 1, 2]),
        groups=np.array([0, 1, 2]),
    )
    assert products.take(products.splits == "train").ids == ["a", "c"]
    assert products.take(np.array([2, 1])).photos == [None, "p"]
    assert products.texts()[2] == ("Table", "déco")


CATEGORIES = Categories((10, 40), {10: "a", 40: "b"})


@pytest.fixture
def store(tmp_path: Path) -> DatasetStore:
    """Three real versions and a demo version."""
    made = DatasetStore(tmp_path / "data")
    for start in (0, 10, 20):
        features = write_csv(tmp_path / "features.csv", many_rows(3, start=start))
        ingest(made, features, None, None, categories=CATEGORIES)
    features = write_csv(tmp_path / "features.csv", many_rows(3, start=30))
    ingest(made, features, None, None, categories=CATEGORIES, demo=True)
    return made


@pytest.mark.parametrize("content", ["{", "[]", '{"version": "20260101T000000Z-0000"}'])
def test_a_broken_version_is_named_and_the_others_are_described(store: DatasetStore, content: str) -> None:
    first, second, *others = store.versions()
    (store.folder / second / "manifest.json").write_text(content)

    found, broken = store.described()

    assert [dataset.version for dataset in found] == [first, *others]
    assert broken[second].startswith(f"Dataset {second} has no valid manifest")
    with pytest.raises(DatasetBroken):
        store.describe(second)


def test_products_that_cannot_be_read_are_called_so(store: DatasetStore) -> None:
    (version, *_) = store.versions()
    (store.folder / version / "products.parquet").write_bytes(b"damaged")
    with pytest.raises(DatasetBroken, match=version):
        store.load(version)


@pytest.mark.parametrize("content", ["{", "[]", "null", '{"real": "../../etc"}', '{"real": 5}'])
def test_a_broken_pointer_is_replaced_by_the_newest_versions(store: DatasetStore, tmp_path: Path, content: str) -> None:
    before = store.pointers()
    store.pointer_path.write_text(content)

    assert store.pointers() == before
    assert store.current() == before.real

    features = write_csv(tmp_path / "features.csv", many_rows(3, start=40))
    report = ingest(store, features, None, None, categories=CATEGORIES)
    assert json.loads(store.pointer_path.read_text()) == {"real": report.dataset_version, "demo": before.demo}


def test_a_version_that_cannot_be_deleted_does_not_stop_the_others(
    store: DatasetStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, second, *_ = store.versions()
    rename = Path.rename

    def refusing(path: Path, target: Path) -> Path:
        if path.name == first:
            raise PermissionError(13, "Permission denied")
        return rename(path, target)

    monkeypatch.setattr(Path, "rename", refusing)

    assert store.prune(1) == [second]
