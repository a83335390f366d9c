"""`weighted`: a product of both opinions, each raised to a weight found on held-out rows."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Self

import numpy as np
from numpy.typing import NDArray

from rayonnage_shared.ml.families.base import DEFAULTS, Fitted, Fitting, FloatArray, Fusion, IntArray, Labels, Opinion

DoubleArray = NDArray[np.float64]

_FILE = "weights.npz"
_PRIOR = np.array([1.0, 0.5])
_PRIOR_ROWS = 30.0
_BIAS_PENALTY = 5.0
_FLOOR = 1e-6
"""Least probability that a modality may give: no opinion is so sure that the other cannot outvote it."""


@dataclass(frozen=True)
class WeightedFusion(Fusion):
    """p ∝ text^text_weight · image^image_weight · exp(bias), a log-linear pool (Genest & Zidek 1986).

    `bias` (n_classes,) float32 follows how often each class has both modalities; `rows` were fitted on.
    """

    name: ClassVar[str] = "weighted"
    parameters: ClassVar[Mapping[str, float | int | str | bool]] = {}

    text_weight: float
    image_weight: float
    bias: FloatArray
    rows: int

    @classmethod
    def fit(cls, text: Opinion, image: Opinion, labels: Labels, fitting: Fitting = DEFAULTS) -> Fitted[Self]:
        """Return the weights with the least log loss on rows where neither modality's probabilities are NaN.

        Few rows are balanced against usual weights (1 and 0.5, no bias); without rows those stand alone.
        """
        cls.resolve(fitting.parameters)
        by_text, by_image = text.probabilities, image.probabilities
        both = ~(np.isnan(by_text).any(axis=1) | np.isnan(by_image).any(axis=1))
        weights, bias = _fit_weights(_logarithm(by_text[both]), _logarithm(by_image[both]), labels.classes[both])
        fusion = cls(float(weights[0]), float(weights[1]), bias.astype(np.float32), int(both.sum()))
        held_out = np.full_like(by_text, np.nan)
        held_out[both] = fusion._combined(by_text[both], by_image[both])
        return Fitted(fusion, held_out)

    def combine(self, text: Opinion | None, image: Opinion | None) -> FloatArray:
        """Return probabilities (n, n_classes) float32 whose rows sum to 1; one modality alone is returned unchanged."""
        if text is None or image is None:
            known = image if text is None else text
            if known is None:
                raise ValueError("neither text nor image was given")
            return known.probabilities
        return self._combined(text.probabilities, image.probabilities)

    def _combined(self, text: FloatArray, image: FloatArray) -> FloatArray:
        scores = self.text_weight * _logarithm(text) + self.image_weight * _logarithm(image) + self.bias
        scores[(text <= 0) & (image <= 0)] = -np.inf
        return _softmax(scores).astype(np.float32)

    def save(self, folder: Path) -> None:
        """Write weights.npz."""
        weights = np.array([self.text_weight, self.image_weight])
        np.savez(folder / _FILE, weights=weights, bias=self.bias, rows=self.rows)

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Return what `save` wrote."""
        with np.load(folder / _FILE, allow_pickle=False) as arrays:
            text_weight, image_weight = arrays["weights"].tolist()
            return cls(text_weight, image_weight, arrays["bias"], int(arrays["rows"]))


def _fit_weights(text: DoubleArray, image: DoubleArray, classes: IntArray) -> tuple[DoubleArray, DoubleArray]:
    """Minimize the summed log loss over logarithms (n, n_classes) plus the pull to the prior; the sum is convex."""
    from scipy.optimize import minimize

    n, n_classes = text.shape
    truth = np.zeros((n, n_classes))
    truth[np.arange(n), classes] = 1

    def objective(parameters: DoubleArray) -> tuple[float, DoubleArray]:
        pull, bias = parameters[:2] - _PRIOR, parameters[2:]
        probabilities = _softmax(parameters[0] * text + parameters[1] * image + bias)
        loss = -np.sum(np.log(np.maximum(probabilities[truth > 0], np.finfo(float).tiny)))
        loss += _PRIOR_ROWS / 2 * np.sum(pull**2) + _BIAS_PENALTY / 2 * np.sum(bias**2)
        residual = probabilities - truth
        slopes = np.array([np.sum(residual * text), np.sum(residual * image)]) + _PRIOR_ROWS * pull
        return float(loss), np.concatenate([slopes, residual.sum(axis=0) + _BIAS_PENALTY * bias])

    bounds = [(0, None)] * 2 + [(None, None)] * n_classes
    start = np.concatenate([_PRIOR, np.zeros(n_classes)])
    found: DoubleArray = minimize(objective, start, jac=True, method="L-BFGS-B", bounds=bounds).x
    return found[:2], found[2:]


def _logarithm(probabilities: FloatArray) -> DoubleArray:
    return np.log(np.maximum(probabilities.astype(np.float64), _FLOOR))


def _softmax(scores: DoubleArray) -> DoubleArray:
    odds = np.exp(scores - scores.max(axis=1, keepdims=True))
    shares: DoubleArray = odds / odds.sum(axis=1, keepdims=True)
    return shares
