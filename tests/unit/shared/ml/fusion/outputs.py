"""Made-up outputs of text and photo for tests of fusions."""

from __future__ import annotations

import numpy as np

from rayonnage_shared.ml.base.model import FloatArray, IntArray, ModelOutput

N_CLASSES = 5


def output(classes: IntArray, sharpness: float, seed: int) -> FloatArray:
    """Return calibrated-looking probabilities that favour the right class by `sharpness`."""
    scores = np.random.default_rng(seed).normal(size=(len(classes), N_CLASSES))
    scores[np.arange(len(classes)), classes] += sharpness
    odds = np.exp(scores * sharpness)
    return np.asarray(odds / odds.sum(axis=1, keepdims=True), dtype=np.float32)


def said(probabilities: FloatArray, features: FloatArray | None = None) -> ModelOutput:
    return ModelOutput(
        probabilities, np.empty((len(probabilities), 0), dtype=np.float32) if features is None else features
    )


def classes_of(n: int, seed: int = 0) -> IntArray:
    return np.random.default_rng(seed).integers(0, N_CLASSES, n)


def log_loss(probabilities: FloatArray, classes: IntArray) -> float:
    return float(-np.log(probabilities[np.arange(len(classes)), classes] + 1e-9).mean())
