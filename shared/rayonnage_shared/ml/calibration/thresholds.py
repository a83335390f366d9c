"""Accept thresholds per class that keep a promised precision on new products.

A prediction is accepted if its confidence reaches two minima:

- its class's own, above which the class's held-out rows are as precise as promised. Thirty pseudo-rows that are right
  as often as the calibrated confidence says are counted too: with few rows calibration dominates, with many the data;
- a floor common to all classes, chosen by learn-then-test (Angelopoulos et al. 2021, https://arxiv.org/abs/2110.01052).

Floors are tested on held-out rows, with class minima from the other folds. A floor passes if accepted rows of exactly
the promised precision would have so few errors with a probability of at most 1 - CONFIDENCE (binomial tail).
Fixed-sequence testing goes from a strict floor down to the first that fails, so that many tests need no correction.
With a probability of CONFIDENCE over trainings, the accepted new products of the same source are then right at least as
often as promised; approximately, since each fold has its own model and class minima. docs/quality.md measures it.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Self

import numpy as np
from numpy.typing import NDArray

from rayonnage_shared.ml.base.model import FloatArray, IntArray, known_rows

Mode = Literal["text", "image", "both"]
MODES: tuple[Mode, ...] = ("text", "image", "both")
NEVER = 2.0  # above any probability

METHOD = "learn-then-test"
CONFIDENCE = 0.9
"""Probability that the thresholds of one training keep the promise; the value of the paper's examples."""

# 10 to 40 keep the promise equally well.
_CALIBRATION_ROWS = 30.0
_PARTS = 5
_FLOORS = np.arange(0, 1, 0.01, dtype=np.float32)
# Fewer rows prove little: at 0.95 some 450 of 1,000 are accepted, which must be right 96.4 % of the time.
_MIN_OWN_ROWS = 1_000


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

        Each mode uses `rows_by_mode`, so that its rows are like the products it decides on.
        `folds` (n,) keep near-duplicates together in the evaluation; without them every fifth row is a fold.
        """
        if folds is None:
            folds = np.zeros(len(classes), dtype=np.int64)
        return cls(
            promised_precision,
            {
                mode: _thresholds(table, classes, folds, promised_precision)
                for mode, table in rows_by_mode(held_out).items()
            },
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


def rows_by_mode(tables: Mapping[Mode, FloatArray]) -> dict[Mode, FloatArray]:
    """Return held-out probabilities (n, n_classes) by mode, each with the rows of products that are sent in this mode.

    A product with both modalities is never sent as text alone, and may be easier than those without a photo. Its rows
    become NaN in the other modes, unless fewer than 1,000 rows would remain.
    """
    found = dict(tables)
    if "both" in tables:
        for mode in found.keys() - {"both"}:
            own = known_rows(tables[mode]) & ~known_rows(tables["both"])
            if own.sum() >= _MIN_OWN_ROWS:
                found[mode] = np.where(own[:, None], tables[mode], np.float32(np.nan))
    return found


def _thresholds(probabilities: FloatArray, classes: IntArray, folds: IntArray, promised: float) -> FloatArray:
    known = known_rows(probabilities)
    rows, folds = _Rows.of(probabilities[known], classes[known]), folds[known]
    if len(np.unique(folds)) < 2:
        folds = np.arange(len(folds)) % _PARTS
    accepted, wrong, expected = np.zeros((3, len(_FLOORS)))
    for fold in np.unique(folds):
        test, minima = rows.take(folds == fold), _Curves.of(rows.take(folds != fold)).thresholds(promised)
        test = test.take(test.accepted(minima))
        above = test.confidence >= _FLOORS[:, None]
        accepted += above.sum(axis=1)
        wrong += (above & ~test.correct).sum(axis=1)
        expected += above @ (1 - test.confidence)
    floor = _lowest_proven(accepted, wrong, expected, promised)
    if floor is None:
        return np.full(rows.n_classes, NEVER, dtype=np.float32)
    return np.maximum(_Curves.of(rows).thresholds(promised), floor)


def _lowest_proven(
    accepted: NDArray[np.float64], wrong: NDArray[np.float64], expected: NDArray[np.float64], promised: float
) -> np.float32 | None:
    """Return the lowest of _FLOORS that fixed-sequence testing proves, or None.

    The arrays count rows by floor. The sequence starts where the test would be clearest if there were as many errors as
    the confidences let expect: it must not depend on the labels.
    """
    start = int(np.argmin(_p_value(np.floor(expected), accepted, promised)))
    failed = _p_value(wrong, accepted, promised)[start::-1] > 1 - CONFIDENCE
    passed = int(failed.argmax()) if failed.any() else start + 1
    return np.float32(_FLOORS[start - passed + 1]) if passed else None


def _p_value(wrong: NDArray[np.float64], accepted: NDArray[np.float64], promised: float) -> NDArray[np.float64]:
    """Return the probability of at most `wrong` errors in `accepted` rows of exactly the promised precision."""
    from scipy.stats import binom

    p: NDArray[np.float64] = binom.cdf(wrong, accepted, 1 - promised)
    return p


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
