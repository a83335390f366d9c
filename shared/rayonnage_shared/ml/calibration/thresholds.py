"""Accept thresholds per class that keep a promised precision.

The precision of a class above a confidence is estimated from its held-out rows plus 30 pseudo-rows that are right as
often as the calibrated confidence says: with few rows calibration dominates, with many the data. Thresholds overfit
the rows they are chosen on, so they are also evaluated on other rows, and chosen again for a higher precision until the
promise is kept there too.

Text of 3,756 real products, thresholds from other folds (mean of three seeds), coverage and precision reached at 0.90,
0.95 and 0.99: 0.607 / 0.903, 0.461 / 0.950, 0.117 / 0.990. With each class's own rows alone and one additional error:
0.579 / 0.903, 0.426 / 0.947, 0.118 / 0.992. docs/quality.md says what else was tried.
"""

from __future__ import annotations

import json
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Self

import numpy as np
from numpy.typing import NDArray

from rayonnage_shared.ml.base.model import FloatArray, IntArray, known_rows

Mode = Literal["text", "image", "both"]
MODES: tuple[Mode, ...] = ("text", "image", "both")
NEVER = 2.0  # above any probability

# 10 to 40 keep the promise equally well; more rows accept a little more at 0.95 and less at 0.99.
_CALIBRATION_ROWS = 30.0
_PARTS = 5
# Target precisions from the promise to near 1, as fractions of the gap.
_RAISES = np.arange(0, 1, 0.02)
# The promise is kept if it holds on average and the one-sided 95 % bound is at most one point below.
_BOUND = 1.645
_TOLERANCE = 0.01


@dataclass(frozen=True, slots=True)
class Decisions:
    """Minimum confidence (n_classes,) at which a class is accepted, by modalities of the product."""

    promised_precision: float
    thresholds: dict[Mode, FloatArray]

    @classmethod
    def fit(
        cls,
        held_out: dict[Mode, FloatArray],
        classes: IntArray,
        promised_precision: float,
        folds: IntArray | None = None,
    ) -> Self:
        """Return thresholds found on held-out probabilities (n, n_classes) by mode; rows that are NaN are left out.

        `folds` (n,) keep near-duplicates together in the evaluation; without them every fifth row is a fold.
        """
        if folds is None:
            folds = np.zeros(len(classes), dtype=np.int64)
        return cls(
            promised_precision,
            {mode: _thresholds(table, classes, folds, promised_precision) for mode, table in held_out.items()},
        )

    def accepts(self, mode: Mode, position: int, confidence: float) -> bool:
        """Return whether a prediction of the class at `position` keeps the promise."""
        thresholds = self.thresholds.get(mode)
        return thresholds is not None and confidence >= float(thresholds[position])

    def accepted(self, mode: Mode, probabilities: FloatArray) -> NDArray[np.bool_]:
        """Return `accepts` for the most probable class of each row of `probabilities` (n, n_classes)."""
        thresholds = self.thresholds.get(mode)
        if thresholds is None:
            return np.zeros(len(probabilities), dtype=np.bool_)
        position = probabilities.argmax(axis=1)
        accepted: NDArray[np.bool_] = probabilities.max(axis=1) >= thresholds[position]
        return accepted

    def save(self, path: Path) -> None:
        document = {
            "promised_precision": self.promised_precision,
            "thresholds": {mode: [round(float(t), 6) for t in table] for mode, table in self.thresholds.items()},
        }
        path.write_text(json.dumps(document, indent=1), encoding="utf-8")

    @classmethod
    def load(cls, path: Path) -> Self:
        document = json.loads(path.read_text(encoding="utf-8"))
        return cls(
            document["promised_precision"],
            {mode: np.asarray(table, dtype=np.float32) for mode, table in document["thresholds"].items()},
        )


def _thresholds(probabilities: FloatArray, classes: IntArray, folds: IntArray, promised: float) -> FloatArray:
    known = known_rows(probabilities)
    rows, folds = _Rows.of(probabilities[known], classes[known]), folds[known]
    if len(np.unique(folds)) < 2:
        folds = np.arange(len(folds)) % _PARTS
    parts = [(rows.take(folds == fold), _Curves.of(rows.take(folds != fold))) for fold in np.unique(folds)]
    for aim in promised + (1 - promised) * _RAISES:
        judged = [part.correct[part.accepted(others.thresholds(aim))] for part, others in parts]
        if judged and _keeps(np.concatenate(judged), promised):
            return _Curves.of(rows).thresholds(aim)
    return np.full(rows.n_classes, NEVER, dtype=np.float32)


def _keeps(correct: NDArray[np.bool_], promised: float) -> bool:
    """Return whether accepted rows keep the promise, by their mean and its lower bound (Wilson 1927)."""
    n = len(correct)
    if n == 0:
        return False
    mean, square = float(correct.mean()), _BOUND**2 / n
    bound = (mean + square / 2 - math.sqrt(square * (mean * (1 - mean) + square / 4))) / (1 + square)
    return mean >= promised and bound >= promised - _TOLERANCE


@dataclass(frozen=True, slots=True)
class _Rows:
    """Held-out rows (n,): the class that was most probable, how probable, and whether it was right."""

    n_classes: int
    predicted: IntArray
    confidence: FloatArray
    correct: NDArray[np.bool_]

    @classmethod
    def of(cls, probabilities: FloatArray, classes: IntArray) -> Self:
        n_classes = probabilities.shape[1]
        predicted = probabilities.argmax(axis=1)
        return cls(n_classes, predicted, probabilities.max(axis=1, initial=0), predicted == classes)

    def take(self, rows: NDArray[np.bool_]) -> _Rows:
        return _Rows(self.n_classes, self.predicted[rows], self.confidence[rows], self.correct[rows])

    def accepted(self, thresholds: FloatArray) -> NDArray[np.bool_]:
        accepted: NDArray[np.bool_] = self.confidence >= thresholds[self.predicted]
        return accepted


@dataclass(frozen=True, slots=True)
class _Curves:
    """For each class its confidences in descending order, and the expected precision of the rows above each."""

    confidence: list[FloatArray]
    precision: list[NDArray[np.float64]]

    @classmethod
    def of(cls, rows: _Rows) -> Self:
        confidences, precisions = [], []
        for position in range(rows.n_classes):
            own = np.flatnonzero(rows.predicted == position)
            own = own[np.argsort(-rows.confidence[own], kind="stable")]
            count = np.arange(1, len(own) + 1)
            calibrated = np.cumsum(rows.confidence[own], dtype=np.float64) / count
            hits = np.cumsum(rows.correct[own])
            confidences.append(rows.confidence[own])
            precisions.append((_CALIBRATION_ROWS * calibrated + hits) / (_CALIBRATION_ROWS + count))
        return cls(confidences, precisions)

    def thresholds(self, aim: float) -> FloatArray:
        """Return the least confidences (n_classes,) from which on the expected precision reaches `aim`.

        If no row reaches `aim`, the calibrated confidence `aim` itself is the threshold.
        """
        found = np.full(len(self.confidence), NEVER, dtype=np.float32)
        for position, (confidence, precision) in enumerate(zip(self.confidence, self.precision, strict=True)):
            reached = np.flatnonzero(precision >= aim)
            if len(reached):
                found[position] = confidence[reached[-1]]
            elif len(confidence) == 0 or confidence[0] < aim:
                found[position] = aim
        return found
