"""The single fold that a network's training holds out: most networks are too slow to train once per fold."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

import numpy as np

from rayonnage_shared.ml.base.model import FloatArray, IntArray, Labels
from rayonnage_shared.ml.calibration.curve import Calibration


@dataclass(frozen=True)
class Split:
    """The training rows, the held-out rows, and the weight of each training row (1 on average)."""

    labels: Labels
    train: IntArray
    held_out: IntArray
    weights: FloatArray

    @classmethod
    def of(cls, labels: Labels, balance: float) -> Self:
        """Hold out the first fold, or nothing if there is a single fold.

        A row's weight is (mean class size / size of its class) ** `balance`.
        """
        folds = np.unique(labels.folds)
        out = labels.folds == folds[0] if len(folds) > 1 else np.zeros(len(labels.folds), dtype=np.bool_)
        train = np.flatnonzero(~out)
        sizes = np.bincount(labels.classes[train], minlength=labels.n_classes)
        by_class = (sizes[sizes > 0].mean() / np.maximum(sizes, 1)) ** balance
        weights = by_class[labels.classes]
        return cls(labels, train, np.flatnonzero(out), (weights / weights[train].mean()).astype(np.float32))

    @property
    def present(self) -> IntArray:
        """Positions of the classes that have training rows."""
        return np.unique(self.labels.classes[self.train])

    def calibration(self, scores: FloatArray) -> Calibration:
        """Return the curve for log-probabilities of the held-out rows; without any, a plain softmax."""
        if len(self.held_out):
            return Calibration.fit(scores, self.labels.classes[self.held_out], self.present)
        known = np.zeros(self.labels.n_classes, dtype=np.bool_)
        known[self.present] = True
        return Calibration(slope=1.0, offset=-8.0, power=1.0, present=known)  # sigmoid(x - 8) is exp(x - 8) to 0.03 %

    def held_out_table(self, scores: FloatArray, calibration: Calibration) -> FloatArray:
        """Return probabilities (n, n_classes) for all rows, NaN except for the held-out ones, which have `scores`."""
        table = np.full((len(self.labels.classes), self.labels.n_classes), np.nan, dtype=np.float32)
        if len(self.held_out):
            table[self.held_out] = calibration.probabilities(scores)
        return table
