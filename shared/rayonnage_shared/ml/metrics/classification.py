"""Classification metrics of predicted probabilities."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from rayonnage_shared.ml.base.model import FloatArray, IntArray

CALIBRATION_BINS = 10


@dataclass(frozen=True, slots=True)
class ClassScore:
    """Precision, recall and F1 of one class, and its number of rows."""

    code: int
    rows: int
    precision: float
    recall: float
    f1: float


@dataclass(frozen=True, slots=True)
class CalibrationBin:
    """Mean confidence and accuracy of the rows whose confidence falls into one of ten equal intervals."""

    rows: int
    confidence: float
    accuracy: float


@dataclass(frozen=True, slots=True)
class Evaluation:
    """Metrics on one set of rows; `confusion` is (n_classes, n_classes), truth by row."""

    rows: int
    accuracy: float
    f1_macro: float
    f1_weighted: float
    ece: float
    classes: tuple[ClassScore, ...]
    confusion: IntArray
    calibration: tuple[CalibrationBin, ...]

    def headline(self) -> dict[str, float]:
        """Return the four metrics that every list of models shows."""
        return {
            "accuracy": self.accuracy,
            "f1_macro": self.f1_macro,
            "f1_weighted": self.f1_weighted,
            "ece": self.ece,
        }


def evaluate(probabilities: FloatArray, truth: IntArray, codes: tuple[int, ...]) -> Evaluation:
    """Return the metrics of `probabilities` (n, n_classes) against `truth` (n,) positions; n must be at least 1."""
    predicted = probabilities.argmax(axis=1)
    confusion = confusion_matrix(truth, predicted, len(codes))
    precision, recall, f1 = _rates(confusion)
    support = confusion.sum(axis=1)
    present = (support > 0) | (confusion.sum(axis=0) > 0)
    bins = _calibration_bins(probabilities, truth)
    return Evaluation(
        rows=len(truth),
        accuracy=float(np.trace(confusion) / len(truth)),
        f1_macro=float(f1[present].mean()),
        f1_weighted=weighted_f1(confusion),
        ece=sum(one.rows * abs(one.confidence - one.accuracy) for one in bins) / len(truth),
        classes=tuple(
            ClassScore(code, int(support[i]), float(precision[i]), float(recall[i]), float(f1[i]))
            for i, code in enumerate(codes)
            if present[i]
        ),
        confusion=confusion,
        calibration=bins,
    )


def confusion_matrix(truth: IntArray, predicted: IntArray, n_classes: int) -> IntArray:
    """Return counts (n_classes, n_classes), truth by row, prediction by column."""
    pairs = np.bincount(truth * n_classes + predicted, minlength=n_classes * n_classes)
    return pairs.reshape(n_classes, n_classes).astype(np.int64)


def class_f1(confusion: IntArray) -> FloatArray:
    """Return F1 by class (n_classes,); 0 for a class that is neither present nor predicted."""
    return _rates(confusion)[2]


def macro_f1(confusion: IntArray) -> float:
    """Return the mean F1 over the classes that are present or predicted, as scikit-learn defines it."""
    present = (confusion.sum(axis=1) > 0) | (confusion.sum(axis=0) > 0)
    return float(class_f1(confusion)[present].mean())


def weighted_f1(confusion: IntArray) -> float:
    """Return the mean F1 over the classes, weighted by their rows, as scikit-learn defines it."""
    support = confusion.sum(axis=1)
    return float((class_f1(confusion) * support).sum() / support.sum())


def _rates(confusion: IntArray) -> tuple[FloatArray, FloatArray, FloatArray]:
    hits = np.diag(confusion).astype(np.float64)
    predicted = confusion.sum(axis=0)
    support = confusion.sum(axis=1)
    precision = hits / np.maximum(predicted, 1)
    recall = hits / np.maximum(support, 1)
    f1 = 2 * hits / np.maximum(predicted + support, 1)
    return precision.astype(np.float32), recall.astype(np.float32), f1.astype(np.float32)


def _calibration_bins(probabilities: FloatArray, truth: IntArray) -> tuple[CalibrationBin, ...]:
    """Equal-width bins of top-1 confidence (Guo et al., On Calibration of Modern Neural Networks, 2017)."""
    confidence = probabilities.max(axis=1)
    correct = probabilities.argmax(axis=1) == truth
    position = np.minimum((confidence * CALIBRATION_BINS).astype(np.int64), CALIBRATION_BINS - 1)
    found = []
    for index in range(CALIBRATION_BINS):
        rows = position == index
        count = int(rows.sum())
        found.append(
            CalibrationBin(
                count,
                float(confidence[rows].mean()) if count else 0.0,
                float(correct[rows].mean()) if count else 0.0,
            )
        )
    return tuple(found)
