from __future__ import annotations

import numpy as np
import pytest

from rayonnage_shared.ml.base.model import Labels
from rayonnage_shared.ml.networks.held_out_split import Split

LABELS = Labels(np.array([0, 0, 0, 0, 1, 0, 2]), np.array([1, 1, 2, 2, 2, 1, 1]), 4)


def test_the_first_fold_is_held_out() -> None:
    split = Split.of(LABELS, 0.0)

    assert split.held_out.tolist() == [0, 1, 5, 6]
    assert split.train.tolist() == [2, 3, 4]
    assert split.present.tolist() == [0, 1]


def test_with_one_fold_every_row_teaches() -> None:
    split = Split.of(Labels(LABELS.classes, np.zeros(7, dtype=np.int64), 4), 0.5)

    assert len(split.held_out) == 0
    assert len(split.train) == 7


@pytest.mark.parametrize(("balance", "ratio"), [(0.0, 1.0), (0.5, 2**0.5), (1.0, 2.0)])
def test_rows_of_rare_classes_weigh_more_by_the_balance(balance: float, ratio: float) -> None:
    split = Split.of(LABELS, balance)
    weights = split.weights[split.train]

    assert weights[2] / weights[0] == pytest.approx(ratio)
    assert weights.mean() == pytest.approx(1)


def test_calibration_without_held_out_rows_is_a_softmax_over_the_classes_that_taught() -> None:
    split = Split.of(Labels(LABELS.classes, np.zeros(7, dtype=np.int64), 4), 0.5)
    scores = np.log(np.array([[0.5, 0.3, 0.1, 0.1]], dtype=np.float32))

    probabilities = split.calibration(scores[:0]).probabilities(scores)

    np.testing.assert_allclose(probabilities, [[5 / 9, 3 / 9, 1 / 9, 0]], atol=2e-4)


def test_calibration_with_held_out_rows_follows_them() -> None:
    labels = Labels(np.tile([0, 1], 200), np.arange(400) // 200, 2)
    split = Split.of(labels, 0.0)
    # Sure of itself, and wrong in three rows of ten.
    wrong = np.arange(200) % 10 < 3
    claimed = np.where(wrong, 1 - labels.classes[split.held_out], labels.classes[split.held_out])
    scores = np.log(np.where(np.arange(2) == claimed[:, None], 0.999, 0.001)).astype(np.float32)

    calibration = split.calibration(scores)
    table = split.held_out_table(scores, calibration)

    assert table[split.held_out].max(axis=1).mean() == pytest.approx(0.7, abs=0.02)
    assert np.isnan(table[split.train]).all()
