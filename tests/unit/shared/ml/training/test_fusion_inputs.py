from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest

from rayonnage_shared.ml.base.model import FloatArray, ModelOutput, ProductText
from rayonnage_shared.ml.base.progress import silent
from rayonnage_shared.ml.catalogue.datasets import DatasetStore
from rayonnage_shared.ml.catalogue.products import Products
from rayonnage_shared.ml.training import fusion_inputs
from rayonnage_shared.ml.training.fusion_inputs import FusionInputs, StoredFeatures, learning_rows


def held_out_of(rows: list[int], n: int) -> FloatArray:
    """Return probabilities of n products, NaN but for `rows`."""
    table = np.full((n, 2), np.nan, dtype=np.float32)
    table[rows] = 0.5
    return table


def test_features_come_back_in_the_order_asked_for(tmp_path: Path) -> None:
    features = np.random.default_rng(0).normal(size=(5000, 3)).astype(np.float32)
    StoredFeatures(tmp_path / "new").save("text", [f"p{i}" for i in range(5000)], features)

    found = StoredFeatures(tmp_path / "new").find("text", ["p4999", "p0", "p4096"])

    assert found is not None
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, features[[4999, 0, 4096]], rtol=1e-3)


def test_features_that_are_not_stored_for_every_product_are_not_found(tmp_path: Path) -> None:
    stored = StoredFeatures(tmp_path)
    assert stored.find("text", []) is None

    stored.save("text", ["a"], np.ones((1, 2), dtype=np.float32))

    assert stored.find("text", ["a", "b"]) is None
    assert stored.find("image", ["a"]) is None


class Said:
    """Stands for a fitted text model: its features are how long title and description are."""

    @classmethod
    def load(cls, folder: Path) -> Said:
        assert folder.name == "text"
        return cls()

    def output(self, texts: Sequence[ProductText]) -> ModelOutput:
        lengths = np.array([[len(one.title), len(one.description)] for one in texts], dtype=np.float32)
        return ModelOutput(np.full((len(texts), 2), 0.5, dtype=np.float32), lengths)


@pytest.fixture
def inputs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> FusionInputs:
    monkeypatch.setattr(fusion_inputs, "text_family", lambda name: Said)
    return FusionInputs(tmp_path, StoredFeatures(tmp_path / "features"), DatasetStore(tmp_path), silent)


def products(*titles: str) -> Products:
    zeros = np.zeros(len(titles), dtype=np.int64)
    return Products(
        [f"p{i}" for i in range(len(titles))],
        list(titles),
        [""] * len(titles),
        zeros,
        [None] * len(titles),
        np.array(["train"] * len(titles)),
        zeros,
        zeros,
    )


def test_features_that_are_not_stored_are_computed_by_the_model_and_only_where_wanted(inputs: FusionInputs) -> None:
    wanted = np.array([False, True, True])

    found = inputs.text("said", products("Lampe", "Console", "Lit"), held_out_of([1, 2], 3), wanted).features

    np.testing.assert_array_equal(found, [[np.nan, np.nan], [7, 0], [3, 0]])


def test_stored_features_are_not_computed_again(inputs: FusionInputs) -> None:
    inputs.stored.save("text", ["p0", "p1"], np.array([[8, 8], [9, 9]], dtype=np.float32))

    found = inputs.text("said", products("Lampe", "Console"), held_out_of([1], 2), np.array([False, True])).features

    np.testing.assert_array_equal(found, [[np.nan, np.nan], [9, 9]])


def test_the_width_is_known_where_no_row_is_wanted(inputs: FusionInputs) -> None:
    """The head must fit what serving will bring, whether or not a row had both modalities."""
    found = inputs.text("said", products("Lampe"), held_out_of([], 1), np.array([False])).features

    assert found.shape == (1, 2)


def test_few_rows_are_all_learned_from() -> None:
    rows = learning_rows(held_out_of([0, 1, 2], 6), held_out_of([2, 3], 6), np.zeros(6, dtype=np.int64))

    assert rows.tolist() == [0, 1, 2, 3]


def test_many_rows_are_thinned_within_each_class(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fusion_inputs, "MOST_WITH_BOTH", 50)
    monkeypatch.setattr(fusion_inputs, "MOST_WITH_ONE", 10)
    classes = np.arange(300) % 5 // 4  # one row in five is of class 1
    with_photo = held_out_of(list(range(200)), 300)

    rows = learning_rows(held_out_of(list(range(300)), 300), with_photo, classes)

    both = rows[rows < 200]
    assert (len(both), len(rows)) == (50, 60)
    assert classes[both].sum() == 10
