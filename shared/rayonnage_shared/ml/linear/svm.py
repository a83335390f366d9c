"""A linear support vector machine for many classes at once over sparse and dense features.

One product with a matrix of 27 columns serves all classes; LIBLINEAR scans the data once per class.
The optimum is the same: L2-regularised squared hinge, one-vs-rest, as scikit-learn's `LinearSVC`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any, Self

import numpy as np

from rayonnage_shared.ml.base.model import FloatArray, IntArray

Block = Any  # (n, width) float32, a CSR matrix or an ndarray

_NEWTON_STEPS = 20
_CONJUGATE_STEPS = 12
# A class has converged when its gradient is below this fraction of the gradient at zero weights, times the root of
# its share of the rows: the first gradient of a rare class is dominated by negatives. At 0.02 without the root,
# macro F1 was 6 points lower.
_TOLERANCE = 0.02
# Squared, for each Newton step's system. 0.1 takes 21 products where 0.01 takes 33 and scores the same or better.
_INNER_TOLERANCE = 0.1
_MIN_FOR_THREADS = 2_000_000


@dataclass(frozen=True, slots=True)
class LinearModel:
    """`weights` (size, n_classes) and `intercept` (n_classes,), float32."""

    weights: FloatArray
    intercept: FloatArray

    def scores(self, blocks: Sequence[Block]) -> FloatArray:
        """Return features @ weights + intercept, (n, n_classes), for the blocks of `fit_svm`."""
        return np.asarray(_product(blocks, self.weights) + self.intercept)

    def save(self, path: Path) -> None:
        """Write the two arrays."""
        np.savez(path, weights=self.weights, intercept=self.intercept)

    @classmethod
    def load(cls, path: Path) -> Self:
        """Load what `save` wrote."""
        with np.load(path, allow_pickle=False) as arrays:
            return cls(arrays["weights"], arrays["intercept"])


def fit_svm(
    blocks: Sequence[Block],
    classes: IntArray,
    n_classes: int,
    *,
    cost: FloatArray,
    start: LinearModel | None = None,
) -> LinearModel:
    """Return the one-vs-rest SVM; `cost` (n,) is C times a row's weight; the intercept is regularised too.

    Truncated Newton steps, each solved by conjugate gradients; the classes share only the matrix products. A class
    without rows gets a model that rejects every row. `start` saves steps and does not change the optimum.
    """
    with _Design(blocks) as design:
        return _newton(design, classes, n_classes, cost[:, None].astype(np.float32), start)


def _newton(
    design: _Design, classes: IntArray, n_classes: int, cost: FloatArray, start: LinearModel | None
) -> LinearModel:
    signs = np.full((len(classes), n_classes), -1, dtype=np.float32)
    signs[np.arange(len(classes)), classes] = 1
    share = np.maximum(np.bincount(classes, minlength=n_classes), 1) / len(classes)
    target = _TOLERANCE * np.sqrt(share) * _norms(design.adjoint(2 * cost * signs))
    if start is None:
        weights = np.zeros((design.width, n_classes), dtype=np.float32)
        scores = np.zeros((len(classes), n_classes), dtype=np.float32)
    else:
        weights = np.vstack([start.weights, start.intercept])
        scores = design.forward(weights)
    open_classes = np.arange(n_classes)
    for _ in range(_NEWTON_STEPS):
        # Most classes converge after a few steps; only the columns of the others are multiplied.
        chosen = signs[:, open_classes]
        start_scores, start_weights = scores[:, open_classes], weights[:, open_classes]
        slack = np.maximum(0, 1 - chosen * start_scores)
        gradient = start_weights - design.adjoint(2 * cost * chosen * slack)
        moving = _norms(gradient) > target[open_classes]
        if not moving.any():
            break
        open_classes = open_classes[moving]
        chosen, slack, gradient = chosen[:, moving], slack[:, moving], gradient[:, moving]
        start_scores, start_weights = start_scores[:, moving], start_weights[:, moving]
        step, change = _solve(design, 2 * cost * (slack > 0), gradient)
        before = np.sum(cost * slack**2, axis=0)
        along, square = _dots(start_weights, step), _dots(step, step)
        length = np.ones(len(open_classes), dtype=np.float32)
        for _halving in range(8):
            after = np.sum(cost * np.maximum(0, 1 - chosen * (start_scores + length * change)) ** 2, axis=0)
            worse = after + length * along + 0.5 * length**2 * square > before
            if not worse.any():
                break
            length[worse] /= 2
        weights[:, open_classes] += length * step
        scores[:, open_classes] += length * change
    return LinearModel(weights[:-1], weights[-1].copy())


def _solve(design: _Design, curvature: FloatArray, gradient: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Return the Newton step, (1 + X' curvature X) step = -gradient, roughly, and what it does to the scores."""
    step, change = np.zeros_like(gradient), np.zeros_like(curvature)
    residual = -gradient
    direction = residual.copy()
    square = _dots(residual, residual)
    target = _INNER_TOLERANCE * square
    for _ in range(_CONJUGATE_STEPS):
        active = square > target
        if not active.any():
            break
        moved = design.forward(direction)
        bent = direction + design.adjoint(curvature * moved)
        length = np.where(active, square / np.maximum(_dots(direction, bent), 1e-30), 0).astype(np.float32)
        step += length * direction
        change += length * moved
        residual -= length * bent
        new = _dots(residual, residual)
        direction *= np.where(active, new / np.maximum(square, 1e-30), 0).astype(np.float32)
        direction += residual
        square = np.where(active, new, square)
    return step, change


class _Design:
    """Feature blocks side by side with a last column of ones, in two halves of rows for two threads.

    SciPy's products use one thread and release the interpreter lock. The halves are the same on every machine, so the
    sums are too.
    """

    def __init__(self, blocks: Sequence[Block]) -> None:
        rows = blocks[0].shape[0]
        many = sum(getattr(block, "nnz", block.size) for block in blocks) > _MIN_FOR_THREADS
        borders = [0, rows // 2, rows] if many else [0, rows]
        self.width = sum(block.shape[1] for block in blocks) + 1
        ones = np.ones((rows, 1), dtype=np.float32)
        self._parts = [
            [block[start:end] for block in (*blocks, ones)] if many else [*blocks, ones]
            for start, end in pairwise(borders)
        ]
        self._borders = borders
        self._threads = ThreadPoolExecutor(2) if many else None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._threads is not None:
            self._threads.shutdown()

    def forward(self, weights: FloatArray) -> FloatArray:
        """Return features @ weights, (n, n_classes)."""
        return np.concatenate(list(self._map(lambda part: _product(self._parts[part], weights))))

    def adjoint(self, residuals: FloatArray) -> FloatArray:
        """Return features.T @ residuals, (width, n_classes)."""

        def one(part: int) -> FloatArray:
            rows = residuals[self._borders[part] : self._borders[part + 1]]
            return np.concatenate([block.T @ rows for block in self._parts[part]])

        first, *rest = self._map(one)
        for other in rest:
            first += other
        return first

    def _map(self, call: Callable[[int], FloatArray]) -> Iterable[FloatArray]:
        parts = range(len(self._parts))
        return map(call, parts) if self._threads is None else self._threads.map(call, parts)


def _product(blocks: Sequence[Block], weights: FloatArray) -> FloatArray:
    total: FloatArray | None = None
    start = 0
    for block in blocks:
        end = start + block.shape[1]
        product = block @ weights[start:end]
        total = product if total is None else total + product
        start = end
    assert total is not None
    return total


def _dots(first: FloatArray, second: FloatArray) -> FloatArray:
    products: FloatArray = np.einsum("ij,ij->j", first, second)
    return products


def _norms(matrix: FloatArray) -> FloatArray:
    return np.sqrt(_dots(matrix, matrix))
