"""Reading dataset versions."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from rayonnage_shared.ml.catalogue.datasets import DatasetNotFound, DatasetStore
from rayonnage_shared.ml.catalogue.products import Products


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
