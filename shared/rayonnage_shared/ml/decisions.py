"""When a prediction may be accepted without a look: thresholds by class that keep a promised precision."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, Self

import numpy as np
from numpy.typing import NDArray

from rayonnage_shared.ml.families.base import FloatArray, IntArray

Mode = Literal["text", "image", "both"]
MODES: tuple[Mode, ...] = ("text", "image", "both")
NEVER = 2.0  # above any probability
MIN_CLASS_ROWS = 30  # with fewer predictions of a class its own threshold would be chance; the common one is used


@dataclass(frozen=True, slots=True)
class Decisions:
    """Least confidence (n_classes,) at which a class is accepted, by the modalities that the product had."""

    promised_precision: float
    thresholds: dict[Mode, FloatArray]

    @classmethod
    def fit(cls, held_out: dict[Mode, FloatArray], classes: IntArray, promised_precision: float) -> Self:
        """Return thresholds found on held-out probabilities (n, n_classes) by mode; rows that are NaN are left out."""
        return cls(
            promised_precision,
            {mode: _thresholds(table, classes, promised_precision) for mode, table in held_out.items()},
        )

    def accepts(self, mode: Mode, position: int, confidence: float) -> bool:
        """Return whether a prediction of the class at `position` keeps the promise."""
        thresholds = self.thresholds.get(mode)
        return thresholds is not None and confidence >= float(thresholds[position])

    def accepted(self, mode: Mode, probabilities: FloatArray) -> NDArray[np.bool_]:
        """Return for each row of `probabilities` (n, n_classes) what `accepts` says of its most probable class."""
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


def _thresholds(probabilities: FloatArray, classes: IntArray, promised: float) -> FloatArray:
    n_classes = probabilities.shape[1]
    known = ~np.isnan(probabilities).any(axis=1)
    probabilities, classes = probabilities[known], classes[known]
    if len(classes) == 0:
        return np.full(n_classes, NEVER, dtype=np.float32)
    predicted = probabilities.argmax(axis=1)
    confidence = probabilities.max(axis=1)
    correct = predicted == classes
    thresholds = np.full(n_classes, _threshold(confidence, correct, promised), dtype=np.float32)
    for position in range(n_classes):
        rows = predicted == position
        if rows.sum() >= MIN_CLASS_ROWS:
            thresholds[position] = _threshold(confidence[rows], correct[rows], promised)
    return thresholds


def _threshold(confidence: FloatArray, correct: np.ndarray, promised: float) -> float:
    """Return the least confidence from which on the precision is kept, one more error being assumed.

    The assumed error keeps a run of few lucky rows from passing for certainty: at 0.95 it takes 19 of them.
    """
    order = np.argsort(-confidence, kind="stable")
    hits = np.cumsum(correct[order])
    precision = hits / (np.arange(len(order)) + 2)
    kept = np.flatnonzero(precision >= promised)
    return float(confidence[order[kept[-1]]]) if len(kept) else NEVER
