"""Scores to probabilities."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from rayonnage_shared.ml.base.model import FloatArray, IntArray, Labels
from rayonnage_shared.ml.calibration.curve import Calibration, cross_calibrated


def drawn(calibration: Calibration, n: int, seed: int = 0) -> tuple[FloatArray, IntArray]:
    """Return scores and classes that follow the calibration exactly."""
    random = np.random.default_rng(seed)
    scores = random.normal(-0.8, 0.6, (n, 6)).astype(np.float32)
    cumulated = calibration.probabilities(scores).cumsum(axis=1)
    return scores, (random.random((n, 1)) > cumulated).sum(axis=1).clip(0, 5)


ALL = np.ones(6, dtype=np.bool_)


@pytest.mark.parametrize("truth", [Calibration(2.0, 1.1, 6.0, ALL), Calibration(0.3, -5.0, 9.0, ALL)])
def test_the_true_probabilities_are_found(truth: Calibration) -> None:
    scores, classes = drawn(truth, 6000)
    found = Calibration.fit(scores, classes, np.arange(6))
    difference = np.abs(found.probabilities(scores) - truth.probabilities(scores))
    assert difference.mean() < 0.01


def test_a_class_without_training_rows_gets_nothing() -> None:
    scores, classes = drawn(Calibration(2.0, 1.0, 5.0, ALL), 300)
    classes[classes == 2] = 1
    probabilities = Calibration.fit(scores, classes, np.unique(classes)).probabilities(scores)
    assert probabilities[:, 2].max() == 0
    np.testing.assert_allclose(probabilities.sum(axis=1), 1, atol=1e-6)


def test_a_class_that_the_curve_overrates_is_shifted_down() -> None:
    shifts = np.array([0, -1.5, 0, 0, 0.8, 0], dtype=np.float32)
    truth = Calibration(2.0, 1.0, 5.0, ALL, shifts)
    scores, classes = drawn(truth, 4000)

    found = Calibration.fit(scores, classes, np.arange(6))

    assert found.shifts is not None
    assert found.shifts.argmin() == 1
    assert found.shifts.argmax() == 4
    difference = np.abs(found.probabilities(scores) - truth.probabilities(scores))
    assert difference.mean() < 0.01


def test_a_calibration_from_before_there_were_shifts_is_read_as_it_was(tmp_path: Path) -> None:
    np.savez(tmp_path / "calibration.npz", curve=np.array([2.0, 1.0, 5.0]), present=ALL)
    scores, _ = drawn(Calibration(2.0, 1.0, 5.0, ALL), 20)

    loaded = Calibration.load(tmp_path / "calibration.npz")

    np.testing.assert_array_equal(loaded.probabilities(scores), Calibration(2.0, 1.0, 5.0, ALL).probabilities(scores))


def test_extreme_scores_stay_finite() -> None:
    calibration = Calibration(5.0, 1.0, 8.0, ALL)
    scores = np.array([[1e6, -1e6, 0, 0, 0, 0], [-1e6] * 6], dtype=np.float32)
    probabilities = calibration.probabilities(scores)
    assert np.isfinite(probabilities).all()
    np.testing.assert_allclose(probabilities.sum(axis=1), 1, atol=1e-6)


def test_no_rows_give_the_usual_curve() -> None:
    nothing = Calibration.fit(np.empty((0, 6), dtype=np.float32), np.empty(0, dtype=np.int64), np.arange(6))
    assert 1 < nothing.slope < 4


def test_a_row_is_calibrated_without_its_fold() -> None:
    scores, classes = drawn(Calibration(2.0, 1.0, 5.0, ALL), 400)
    folds = np.arange(400) % 4
    labels = Labels(classes, folds, 6)
    probabilities = cross_calibrated(scores, labels, np.array([0, 1, 2]))
    assert np.isnan(probabilities[folds == 3]).all()
    changed = classes.copy()
    changed[folds == 0] = (changed[folds == 0] + 1) % 6
    again = cross_calibrated(scores, Labels(changed, folds, 6), np.array([0, 1, 2]))
    np.testing.assert_array_equal(again[folds == 0], probabilities[folds == 0])
    assert not np.allclose(again[folds == 1], probabilities[folds == 1])


def test_a_saved_calibration_comes_back(tmp_path: Path) -> None:
    shifts = np.linspace(-1, 1, 6, dtype=np.float32)
    calibration = Calibration(2.0, 1.0, 5.0, np.array([True, False, True, True, True, True]), shifts)
    calibration.save(tmp_path / "calibration.npz")
    scores, _ = drawn(calibration, 20)
    loaded = Calibration.load(tmp_path / "calibration.npz")
    np.testing.assert_array_equal(loaded.probabilities(scores), calibration.probabilities(scores))
