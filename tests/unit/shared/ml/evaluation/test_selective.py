from __future__ import annotations

import numpy as np
import pytest

from rayonnage_shared.ml.base.model import FloatArray, IntArray
from rayonnage_shared.ml.evaluation.selective import selective_metrics


def calibrated_rows(n: int = 3000, seed: int = 0) -> tuple[FloatArray, IntArray, IntArray]:
    """Products of two classes whose confidence says how often the first is right; fold numbers of five."""
    random = np.random.default_rng(seed)
    confidence = random.uniform(0.5, 1.0, n)
    classes = (random.uniform(size=n) > confidence).astype(np.int64)
    return np.column_stack([confidence, 1 - confidence]).astype(np.float32), classes, np.arange(n) % 5


def test_a_higher_promise_is_kept_by_accepting_less() -> None:
    table, classes, folds = calibrated_rows()

    metrics = selective_metrics({"text": table}, classes, folds)

    assert [one.promised for one in metrics] == [0.90, 0.95, 0.99]
    coverage = [one.coverage for one in metrics]
    assert coverage == sorted(coverage, reverse=True)
    for one in metrics[:2]:
        assert one.precision == pytest.approx(one.promised, abs=0.03)


def test_rows_without_the_modality_count_neither_as_accepted_nor_as_refused() -> None:
    table, classes, folds = calibrated_rows()
    most = table.copy()
    most[::4] = np.nan

    metrics = {one.mode: one for one in selective_metrics({"text": table, "both": most}, classes, folds, [0.9])}

    assert metrics["text"].rows == 3000
    assert metrics["both"].rows == 2250
    assert metrics["both"].coverage == pytest.approx(metrics["text"].coverage, abs=0.1)


def test_products_with_a_photo_count_in_text_alone_only_where_the_others_are_few() -> None:
    table, classes, folds = calibrated_rows(3000)
    half = table.copy()
    half[::2] = np.nan

    metrics = {one.mode: one for one in selective_metrics({"text": table, "both": half}, classes, folds, [0.9])}

    assert (metrics["text"].rows, metrics["both"].rows) == (1500, 1500)


def test_a_mode_without_rows_has_no_metrics() -> None:
    table, classes, folds = calibrated_rows()

    assert selective_metrics({"image": np.full_like(table, np.nan)}, classes, folds) == []


def test_rows_are_evaluated_by_thresholds_of_other_rows_even_in_a_single_fold() -> None:
    table, classes, folds = calibrated_rows()
    # Thresholds found on the very rows that they are judged on would accept the second half, which is always right.
    classes[::2], classes[1::2] = 1, 0

    found = selective_metrics({"text": table}, classes, np.zeros_like(folds), [0.9])[0]

    assert found.precision == 0.0
    assert found.coverage == pytest.approx(0.5, abs=0.01)


def test_precision_is_unknown_where_nothing_is_accepted() -> None:
    table, _, folds = calibrated_rows()

    found = selective_metrics({"text": table}, np.ones(len(folds), dtype=np.int64), folds, [0.9])[0]

    assert found.coverage == 0.0
    assert found.precision is None
