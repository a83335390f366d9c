"""Puts what text and photo say together: a product of both opinions, each raised to a weight found on held-out rows."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Self

import numpy as np
from numpy.typing import NDArray

from rayonnage_shared.ml.families.base import FloatArray, IntArray

_FILE = "weights.json"
_PRIOR = (0.9, 0.6)
_PRIOR_ROWS = 30.0
_FLOOR = 1e-6
"""Least probability that a modality may give: no opinion is so sure that the other cannot outvote it."""
_NEWTON_STEPS = 50


@dataclass(frozen=True, slots=True)
class WeightedFusion:
    """p ∝ text^text_weight · image^image_weight (a log-linear pool, Genest & Zidek 1986); `rows` were fitted on."""

    text_weight: float
    image_weight: float
    rows: int

    @classmethod
    def fit(cls, text: FloatArray, image: FloatArray, classes: IntArray) -> Self:
        """Return the weights with the least log loss on rows where neither (n, n_classes) table is NaN.

        Few rows are balanced against the weights that marketplace products have led to; without rows those stand alone.
        """
        both = ~(np.isnan(text).any(axis=1) | np.isnan(image).any(axis=1))
        logs = np.stack([_logarithm(text[both]), _logarithm(image[both])], axis=-1)
        weights = _fit_weights(logs, classes[both])
        return cls(float(weights[0]), float(weights[1]), int(both.sum()))

    def combine(self, text: FloatArray | None, image: FloatArray | None) -> FloatArray:
        """Return probabilities (n, n_classes) float32 whose rows sum to 1; one modality alone is returned unchanged."""
        if text is None or image is None:
            known = image if text is None else text
            if known is None:
                raise ValueError("neither text nor image was given")
            return known
        scores = self.text_weight * _logarithm(text) + self.image_weight * _logarithm(image)
        scores[(text <= 0) & (image <= 0)] = -np.inf
        return _softmax(scores).astype(np.float32)

    def save(self, folder: Path) -> None:
        """Write weights.json."""
        (folder / _FILE).write_text(json.dumps(asdict(self), indent=2) + "\n", encoding="utf-8")

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Return what `save` wrote."""
        return cls(**json.loads((folder / _FILE).read_text(encoding="utf-8")))


def _fit_weights(logs: NDArray[np.float64], classes: IntArray) -> NDArray[np.float64]:
    """Minimize the log loss over `logs` (n, n_classes, 2) by Newton's method; the sum is convex in the two weights."""
    prior = np.array(_PRIOR)
    weights = prior.copy()
    right = logs[np.arange(len(classes)), classes]
    for _ in range(_NEWTON_STEPS):
        probabilities = _softmax(logs @ weights)
        expected = np.einsum("nk,nkm->nm", probabilities, logs)
        centred = logs - expected[:, None, :]
        gradient = (expected - right).sum(axis=0) + _PRIOR_ROWS * (weights - prior)
        curvature = np.einsum("nk,nki,nkj->ij", probabilities, centred, centred) + _PRIOR_ROWS * np.eye(2)
        step = np.clip(np.linalg.solve(curvature, gradient), -1, 1)
        weights = np.maximum(weights - step, 0)
        if np.abs(step).max() < 1e-6:
            break
    return weights


def _logarithm(probabilities: FloatArray) -> NDArray[np.float64]:
    return np.log(np.maximum(probabilities.astype(np.float64), _FLOOR))


def _softmax(scores: NDArray[np.float64]) -> NDArray[np.float64]:
    odds = np.exp(scores - scores.max(axis=1, keepdims=True))
    total: NDArray[np.float64] = odds / odds.sum(axis=1, keepdims=True)
    return total
