from __future__ import annotations

import numpy as np
import pytest
from sklearn.metrics import accuracy_score, f1_score

from rayonnage_shared.ml.metrics.classification import confusion_matrix, evaluate, macro_f1


def some_probabilities(n: int, n_classes: int, seed: int) -> np.ndarray:
    return np.random.default_rng(seed).dirichlet(np.ones(n_classes), n).astype(np.float32)


def test_the_metrics_equal_scikit_learns() -> None:
    truth = np.random.default_rng(1).integers(0, 5, 300)
    probabilities = some_probabilities(300, 6, 2)
    predicted = probabilities.argmax(axis=1)

    found = evaluate(probabilities, truth, (10, 20, 30, 40, 50, 60))

    assert found.accuracy == pytest.approx(accuracy_score(truth, predicted))
    assert found.f1_macro == pytest.approx(f1_score(truth, predicted, average="macro"), abs=1e-6)
    assert found.f1_weighted == pytest.approx(f1_score(truth, predicted, average="weighted"), abs=1e-6)


def test_a_model_that_says_what_it_knows_has_no_calibration_error() -> None:
    probabilities = np.tile(np.array([[0.75, 0.25]], dtype=np.float32), (400, 1))
    truth = np.array([0, 0, 0, 1] * 100)

    assert evaluate(probabilities, truth, (1, 2)).ece == pytest.approx(0.0, abs=1e-6)


def test_overconfidence_is_the_calibration_error() -> None:
    probabilities = np.tile(np.array([[0.95, 0.05]], dtype=np.float32), (100, 1))
    truth = np.array([0, 1] * 50)

    assert evaluate(probabilities, truth, (1, 2)).ece == pytest.approx(0.45, abs=1e-6)


def test_classes_that_occur_nowhere_do_not_lower_the_macro_f1() -> None:
    truth = np.array([0, 1, 0, 1])

    assert macro_f1(confusion_matrix(truth, truth, 27)) == 1.0
