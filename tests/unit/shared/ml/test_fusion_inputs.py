from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from rayonnage_shared.ml import fusion_inputs
from rayonnage_shared.ml.families.base import FloatArray
from rayonnage_shared.ml.fusion_inputs import WaitingFeatures, learning_rows


def told(rows: list[int], n: int) -> FloatArray:
    """Return probabilities of n products, NaN but for `rows`."""
    table = np.full((n, 2), np.nan, dtype=np.float32)
    table[rows] = 0.5
    return table


def test_features_come_back_in_the_order_asked_for(tmp_path: Path) -> None:
    features = np.random.default_rng(0).normal(size=(5000, 3)).astype(np.float32)
    WaitingFeatures(tmp_path / "new").save("text", [f"p{i}" for i in range(5000)], features)

    found = WaitingFeatures(tmp_path / "new").find("text", ["p4999", "p0", "p4096"])

    assert found is not None
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, features[[4999, 0, 4096]], rtol=1e-3)


def test_features_that_do_not_wait_for_every_product_are_not_found(tmp_path: Path) -> None:
    waiting = WaitingFeatures(tmp_path)
    assert waiting.find("text", []) is None

    waiting.save("text", ["a"], np.ones((1, 2), dtype=np.float32))

    assert waiting.find("text", ["a", "b"]) is None
    assert waiting.find("image", ["a"]) is None


def test_few_rows_are_all_learned_from() -> None:
    rows = learning_rows(told([0, 1, 2], 6), told([2, 3], 6), np.zeros(6, dtype=np.int64))

    assert rows.tolist() == [0, 1, 2, 3]


def test_many_rows_are_thinned_within_each_class(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(fusion_inputs, "MOST_WITH_BOTH", 50)
    monkeypatch.setattr(fusion_inputs, "MOST_WITH_ONE", 10)
    classes = np.arange(300) % 5 // 4  # one row in five is of class 1
    with_photo = told(list(range(200)), 300)

    rows = learning_rows(told(list(range(300)), 300), with_photo, classes)

    both = rows[rows < 200]
    assert (len(both), len(rows)) == (50, 60)
    assert classes[both].sum() == 10
