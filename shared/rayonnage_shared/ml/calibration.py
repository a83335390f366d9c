"""Scores to probabilities: a softmax with one temperature, fitted on rows that the scoring model did not see."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Self

import numpy as np

from rayonnage_shared.ml.families.base import FloatArray, IntArray

_SLOPES = np.geomspace(0.05, 100, 77)


@dataclass(frozen=True, slots=True)
class Calibration:
    """softmax(slope · scores + bias); `bias` (n_classes,) float32 is −inf for classes without training rows."""

    slope: float
    bias: FloatArray

    def probabilities(self, scores: FloatArray) -> FloatArray:
        """Return (n, n_classes) float32 whose rows sum to 1."""
        logits = scores.astype(np.float64) * self.slope + self.bias
        logits -= logits.max(axis=1, keepdims=True)
        np.exp(logits, out=logits)
        logits /= logits.sum(axis=1, keepdims=True)
        return logits.astype(np.float32)

    @classmethod
    def fit(cls, scores: FloatArray, classes: IntArray, present: IntArray) -> Self:
        """Return the slope with the least log loss on `scores` (n, n_classes) of held-out rows.

        `present` are the classes that the model knows. Without rows the slope is 1.
        """
        bias = np.full(scores.shape[1], -np.inf, dtype=np.float32)
        bias[present] = 0
        known = np.isfinite(bias[classes])
        scores, classes = scores[known], classes[known]
        if not len(classes):
            return cls(1.0, bias)
        losses = [cls(float(slope), bias)._log_loss(scores, classes) for slope in _SLOPES]
        return cls(float(_SLOPES[int(np.argmin(losses))]), bias)

    def _log_loss(self, scores: FloatArray, classes: IntArray) -> float:
        chosen = self.probabilities(scores)[np.arange(len(classes)), classes]
        return float(-np.mean(np.log(np.maximum(chosen, 1e-12))))

    def save(self, path: Path) -> None:
        """Write slope and bias."""
        np.savez(path, slope=self.slope, bias=self.bias)

    @classmethod
    def load(cls, path: Path) -> Self:
        """Return what `save` wrote."""
        with np.load(path, allow_pickle=False) as arrays:
            return cls(float(arrays["slope"]), arrays["bias"])
