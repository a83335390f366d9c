"""Linear classifiers for many classes at once over sparse and dense features.

One product with a matrix of 27 columns serves all classes, where LIBLINEAR walks over the data once for each class.
The optimum is the same: L2-regularised squared hinge, one class against the rest, as scikit-learn's `LinearSVC`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

import numpy as np

from rayonnage_shared.ml.families.base import FloatArray, IntArray

Block = Any  # (n, width) float32, a CSR matrix or an ndarray

_NEWTON_STEPS = 20
_CONJUGATE_STEPS = 12
# Where the gradient has shrunk by this factor, further steps no longer change a prediction.
_TOLERANCE = 0.01


@dataclass(frozen=True, slots=True)
class LinearModel:
    """`weights` (size, n_classes) and `intercept` (n_classes,), float32."""

    weights: FloatArray
    intercept: FloatArray

    def save(self, path: Path) -> None:
        """Write the two arrays."""
        np.savez(path, weights=self.weights, intercept=self.intercept)

    @classmethod
    def load(cls, path: Path) -> Self:
        """Return what `save` wrote."""
        with np.load(path, allow_pickle=False) as arrays:
            return cls(arrays["weights"], arrays["intercept"])


class Design:
    """Feature blocks side by side, with a last column of ones for the intercept."""

    def __init__(self, blocks: Sequence[Block]) -> None:
        self.n = blocks[0].shape[0]
        self.blocks = [*blocks, np.ones((self.n, 1), dtype=np.float32)]
        self.transposed = [block.T if isinstance(block, np.ndarray) else block.T.tocsr() for block in self.blocks]
        self.borders = np.cumsum([0, *(block.shape[1] for block in self.blocks)])

    def forward(self, weights: FloatArray) -> FloatArray:
        """Return features @ weights, (n, n_classes)."""
        borders = self.borders
        parts = [block @ weights[borders[i] : borders[i + 1]] for i, block in enumerate(self.blocks)]
        return np.asarray(sum(parts[1:], parts[0]), dtype=np.float32)

    def adjoint(self, residuals: FloatArray) -> FloatArray:
        """Return features.T @ residuals, (width, n_classes)."""
        return np.concatenate([block @ residuals for block in self.transposed], dtype=np.float32)


def fit_svm(
    blocks: Sequence[Block], classes: IntArray, n_classes: int, *, penalty: float, row_weights: FloatArray
) -> LinearModel:
    """Return the one-against-rest squared-hinge SVM with `penalty` C; the intercept is regularised too.

    A class without rows gets a model that answers no.
    """
    design = Design(blocks)
    signs = np.full((design.n, n_classes), -1, dtype=np.float32)
    signs[np.arange(design.n), classes] = 1
    cost = (penalty * row_weights)[:, None].astype(np.float32)
    weights = np.zeros((int(design.borders[-1]), n_classes), dtype=np.float32)
    scores = np.zeros((design.n, n_classes), dtype=np.float32)
    first: FloatArray | None = None
    for _ in range(_NEWTON_STEPS):
        slack = np.maximum(0, 1 - signs * scores)
        gradient = weights - 2 * design.adjoint(cost * signs * slack)
        size = _norms(gradient)
        first = size if first is None else first
        if np.all(size <= _TOLERANCE * first):
            break
        step, change = _newton_step(design, 2 * cost * (slack > 0), gradient)
        start = np.sum(cost * slack**2, axis=0)
        along, square = _dots(weights, step), _dots(step, step)
        length = np.ones(n_classes, dtype=np.float32)
        for _halving in range(8):
            loss = np.sum(cost * np.maximum(0, 1 - signs * (scores + length * change)) ** 2, axis=0)
            worse = loss + length * along + 0.5 * length**2 * square > start
            if not worse.any():
                break
            length[worse] /= 2
        weights += length * step
        scores += length * change
    return LinearModel(weights[:-1], weights[-1].copy())


def _newton_step(design: Design, curvature: FloatArray, gradient: FloatArray) -> tuple[FloatArray, FloatArray]:
    """Solve (1 + X' curvature X) step = -gradient by conjugate gradients, all classes side by side."""
    step = np.zeros_like(gradient)
    change = np.zeros_like(curvature)
    residual = -gradient
    direction = residual.copy()
    square = _dots(residual, residual)
    target = 0.01 * square  # a tenth of the gradient's length
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
        direction *= (new / np.maximum(square, 1e-30)).astype(np.float32)
        direction += residual
        square = np.where(active, new, square)
    return step, change


def _dots(first: FloatArray, second: FloatArray) -> FloatArray:
    products: FloatArray = np.einsum("ij,ij->j", first, second)
    return products


def _norms(matrix: FloatArray) -> FloatArray:
    return np.sqrt(_dots(matrix, matrix))
