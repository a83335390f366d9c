"""Multinomial logistic regression that corrects scores which are there already, and starts from correcting nothing."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from rayonnage_shared.ml.families.base import FloatArray, IntArray
from rayonnage_shared.ml.linear import LinearModel
from rayonnage_shared.ml.log_linear_pool import BIAS_PENALTY

_ITERATIONS = 40  # of L-BFGS for each penalty
_MIN_DEVIATION = 1e-3


@dataclass(frozen=True, slots=True)
class Standard:
    """How columns were made comparable: `table` (n, width) is (raw - mean) * factor, float32."""

    table: FloatArray
    mean: FloatArray
    factor: FloatArray

    @classmethod
    def of(cls, blocks: Sequence[FloatArray], scales: Sequence[float]) -> Standard:
        """Return the blocks (n, width) side by side; each column has mean 0 and its block's scale as deviation."""
        table = np.concatenate(blocks, axis=1, dtype=np.float32)
        if not len(table):
            return cls(table, np.zeros(table.shape[1], dtype=np.float32), np.ones(table.shape[1], dtype=np.float32))
        mean = table.mean(axis=0, dtype=np.float64).astype(np.float32)
        table -= mean
        deviation = np.sqrt(np.einsum("ij,ij->j", table, table) / len(table))
        scale = np.repeat(np.asarray(scales, dtype=np.float32), [block.shape[1] for block in blocks])
        factor = scale / (deviation + np.float32(_MIN_DEVIATION))
        table *= factor
        return cls(table, mean, factor)

    def unfolded(self, head: LinearModel) -> LinearModel:
        """Return the head of `table` as one of the raw columns."""
        weights = head.weights * self.factor[:, None]
        return LinearModel(weights, head.intercept - self.mean @ weights)


def fit_path(
    table: FloatArray,
    classes: IntArray,
    offset: FloatArray,
    penalties: Sequence[float],
    counted: NDArray[np.bool_],
) -> Iterator[LinearModel]:
    """Yield for each penalty, strongest first, the head with the least mean log loss + penalty / 2 · |weights|².

    Scores are offset (n, n_classes) + table (n, width) @ weights + intercept; rows that are not `counted` (n,) have no
    say. The intercept is drawn to 0 as a pool's bias is. Each head starts from the one before.
    """
    from scipy.optimize import minimize

    (n, width), n_classes, rows = table.shape, offset.shape[1], max(1, int(counted.sum()))
    truth = np.zeros((n, n_classes), dtype=np.float32)
    truth[np.arange(n), classes] = 1
    share = (counted / rows).astype(np.float32)
    shrinkage = np.empty((width + 1, 1), dtype=np.float32)
    shrinkage[-1] = BIAS_PENALTY / rows

    def objective(flat: FloatArray) -> tuple[float, FloatArray]:
        parameters = flat.reshape(width + 1, n_classes).astype(np.float32)
        scores = table @ parameters[:-1]
        scores += offset + parameters[-1]
        scores -= scores.max(axis=1, keepdims=True)
        odds = np.exp(scores)
        total = odds.sum(axis=1, keepdims=True)
        loss = share @ (np.log(total[:, 0]) - np.einsum("ij,ij->i", scores, truth))
        residual = (odds / total - truth) * share[:, None]
        gradient = np.vstack([table.T @ residual, residual.sum(axis=0)]) + shrinkage * parameters
        return float(loss + np.sum(shrinkage * parameters**2) / 2), gradient.ravel().astype(np.float64)

    flat = np.zeros((width + 1) * n_classes)
    for penalty in penalties:
        shrinkage[:-1] = penalty
        flat = minimize(objective, flat, jac=True, method="L-BFGS-B", options={"maxiter": _ITERATIONS}).x
        parameters = flat.reshape(width + 1, n_classes).astype(np.float32)
        yield LinearModel(parameters[:-1], parameters[-1])
