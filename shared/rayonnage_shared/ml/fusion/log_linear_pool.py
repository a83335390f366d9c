"""The log-linear pool (Genest & Zidek 1986): p ∝ Π pₖ ^ weightₖ · exp(bias), fitted on held-out rows."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from rayonnage_shared.ml.base.model import FloatArray, IntArray

DoubleArray = NDArray[np.float64]

BIAS_PENALTY = 5.0
"""Half of it times bias² is added to the summed log loss."""
_PRIOR_ROWS = 30.0
_FLOOR = 1e-6
"""Minimum probability of a model output, so that neither model can veto the other."""


@dataclass(frozen=True, slots=True)
class Pool:
    """`weights` has one number for each output; `bias` (n_classes,) corrects class frequencies."""

    weights: tuple[float, ...]
    bias: FloatArray

    def scores(self, outputs: Sequence[FloatArray]) -> DoubleArray:
        """Return log probabilities (n, n_classes), up to a constant per row, of probabilities (n, n_classes) each."""
        weighed = (weight * log_probabilities(one) for weight, one in zip(self.weights, outputs, strict=True))
        return np.asarray(self.bias + sum(weighed), dtype=np.float64)

    def probabilities(self, outputs: Sequence[FloatArray]) -> FloatArray:
        """Return (n, n_classes) float32 whose rows sum to 1; a class to which all outputs give 0 stays at 0."""
        return possible_shares(self.scores(outputs), outputs)


def fit_pool(
    outputs: Sequence[FloatArray], classes: IntArray, usual: Sequence[float], row_weights: FloatArray | None = None
) -> Pool:
    """Return the pool with the least log loss, regularised towards the `usual` weights and no bias.

    `row_weights` (n,) are weights of the rows. The problem is convex.
    """
    from scipy.optimize import minimize

    logarithms = [log_probabilities(one) for one in outputs]
    n, n_classes = logarithms[0].shape
    counts = np.ones(n) if row_weights is None else row_weights.astype(np.float64)
    truth = np.zeros((n, n_classes))
    truth[np.arange(n), classes] = 1
    prior, border = np.asarray(usual, dtype=np.float64), len(usual)

    def objective(parameters: DoubleArray) -> tuple[float, DoubleArray]:
        pull, bias = parameters[:border] - prior, parameters[border:]
        scores = bias + sum(weight * one for weight, one in zip(parameters[:border], logarithms, strict=True))
        probabilities = softmax(np.asarray(scores))
        loss = -np.sum(counts * np.log(np.maximum(probabilities[np.arange(n), classes], np.finfo(float).tiny)))
        loss += _PRIOR_ROWS / 2 * np.sum(pull**2) + BIAS_PENALTY / 2 * np.sum(bias**2)
        residual = counts[:, None] * (probabilities - truth)
        slopes = np.array([np.sum(residual * one) for one in logarithms]) + _PRIOR_ROWS * pull
        return float(loss), np.concatenate([slopes, residual.sum(axis=0) + BIAS_PENALTY * bias])

    bounds = [(0, None)] * border + [(None, None)] * n_classes
    start = np.concatenate([prior, np.zeros(n_classes)])
    found: DoubleArray = minimize(objective, start, jac=True, method="L-BFGS-B", bounds=bounds).x
    return Pool(tuple(found[:border].tolist()), found[border:].astype(np.float32))


def log_probabilities(probabilities: FloatArray) -> DoubleArray:
    """Return logarithms (n, n_classes), clipped at the minimum probability."""
    return np.log(np.maximum(probabilities.astype(np.float64), _FLOOR))


def possible_shares(scores: FloatArray | DoubleArray, outputs: Sequence[FloatArray]) -> FloatArray:
    """Return `scores` as probabilities (n, n_classes) float32; 0 for a class to which all outputs give 0."""
    impossible = np.all([one <= 0 for one in outputs], axis=0)
    return softmax(np.where(impossible, -np.inf, scores.astype(np.float64))).astype(np.float32)


def softmax(scores: DoubleArray) -> DoubleArray:
    """Return scores (n, n_classes) as probabilities whose rows sum to 1."""
    odds = np.exp(scores - scores.max(axis=1, keepdims=True))
    shares: DoubleArray = odds / odds.sum(axis=1, keepdims=True)
    return shares
