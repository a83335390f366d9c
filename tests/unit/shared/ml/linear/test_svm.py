"""The linear support vector machine, against LIBLINEAR."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from scipy import sparse
from sklearn.svm import LinearSVC

from rayonnage_shared.ml.base.model import FloatArray, IntArray
from rayonnage_shared.ml.linear import svm as linear
from rayonnage_shared.ml.linear.svm import LinearModel, fit_svm


@pytest.fixture
def rows() -> tuple[list[object], IntArray, FloatArray]:
    """A sparse and a dense block, classes and costs of 240 rows."""
    random = np.random.default_rng(0)
    classes = random.integers(0, 5, 240)
    thin = sparse.random_array((240, 80), density=0.1, rng=random, dtype=np.float32, format="csr")
    thick = (random.normal(size=(240, 6)) + np.eye(5, 6)[classes]).astype(np.float32)
    return [thin, thick], classes, random.uniform(0.3, 1.5, 240).astype(np.float32)


def exact(blocks: list[object], classes: IntArray, cost: FloatArray) -> FloatArray:
    features = sparse.hstack(blocks, format="csr")
    model = LinearSVC(C=1, tol=1e-8, max_iter=100_000, random_state=0).fit(features, classes, sample_weight=cost)
    return np.asarray(model.decision_function(features), dtype=np.float32)


def test_scores_are_those_of_liblinear(
    rows: tuple[list[object], IntArray, FloatArray], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(linear, "_TOLERANCE", 1e-5)
    blocks, classes, cost = rows
    scores = fit_svm(blocks, classes, 5, cost=cost).scores(blocks)
    np.testing.assert_allclose(scores, exact(blocks, classes, cost), atol=2e-3)


def test_an_early_stop_predicts_the_same_classes(rows: tuple[list[object], IntArray, FloatArray]) -> None:
    blocks, classes, cost = rows
    scores = fit_svm(blocks, classes, 5, cost=cost).scores(blocks)
    assert np.mean(scores.argmax(axis=1) == exact(blocks, classes, cost).argmax(axis=1)) > 0.95


def test_two_threads_give_what_one_gives(
    rows: tuple[list[object], IntArray, FloatArray], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(linear, "_TOLERANCE", 1e-4)
    blocks, classes, cost = rows
    alone = fit_svm(blocks, classes, 5, cost=cost)
    monkeypatch.setattr(linear, "_MIN_FOR_THREADS", 0)
    halves = [fit_svm(blocks, classes, 5, cost=cost) for _ in range(2)]
    np.testing.assert_allclose(halves[0].weights, alone.weights, atol=1e-3)
    np.testing.assert_array_equal(halves[0].weights, halves[1].weights)


def test_a_start_near_the_optimum_leads_to_it(rows: tuple[list[object], IntArray, FloatArray]) -> None:
    blocks, classes, cost = rows
    first = fit_svm(blocks, classes, 5, cost=cost)
    again = fit_svm(blocks, classes, 5, cost=cost, start=first)
    np.testing.assert_allclose(again.scores(blocks), first.scores(blocks), atol=0.02)


def test_a_class_without_rows_is_answered_with_no(rows: tuple[list[object], IntArray, FloatArray]) -> None:
    blocks, classes, cost = rows
    scores = fit_svm(blocks, classes, 7, cost=cost).scores(blocks)
    assert scores[:, 5:].max() < 0


def test_a_saved_model_comes_back(rows: tuple[list[object], IntArray, FloatArray], tmp_path: Path) -> None:
    blocks, classes, cost = rows
    model = fit_svm(blocks, classes, 5, cost=cost)
    model.save(tmp_path / "linear.npz")
    loaded = LinearModel.load(tmp_path / "linear.npz")
    np.testing.assert_array_equal(loaded.weights, model.weights)
    np.testing.assert_array_equal(loaded.intercept, model.intercept)
