"""`tfidf-svm`: words and characters, a linear support vector machine, calibrated."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import ClassVar, Self

import numpy as np

from rayonnage_shared.ml.base.model import (
    DEFAULTS,
    Fitted,
    Fitting,
    Labels,
    ModelOutput,
    ProductText,
    Span,
)
from rayonnage_shared.ml.base.parameters import Bounds, Choice, Parameters
from rayonnage_shared.ml.linear.text_model import LinearTextModel


class TfidfSvm(LinearTextModel):
    """TF-IDF of words and characters and a linear SVM; well under a millisecond for one title."""

    name = "tfidf-svm"
    fast = True
    parameters: ClassVar[Parameters] = {
        "penalty": 0.5,
        "character_scale": 1.4,
        "balance": 0.5,
    }
    bounds: ClassVar[Mapping[str, Bounds | Choice]] = {
        "penalty": Bounds(1e-4, 1e4),
        "character_scale": Bounds(0, 100),
        "balance": Bounds(0, 2),
    }
    search_space: ClassVar[Mapping[str, Span | Choice]] = {
        "penalty": Span(0.05, 5, logarithmic=True),
        "character_scale": Span(0.5, 3.0),
        "balance": Span(0.0, 1.0),
    }

    @classmethod
    def fit(cls, texts: Sequence[ProductText], labels: Labels, fitting: Fitting = DEFAULTS) -> Fitted[Self]:
        """Return the model and held-out probabilities; deterministic, so the seed has no effect."""
        from rayonnage_shared.ml.linear.text_training import LinearSettings, fit_linear_text

        numbers = {name: float(value) for name, value in cls.resolve(fitting.parameters).items()}
        fitted = fit_linear_text(texts, None, labels, LinearSettings(**numbers), fitting.progress)
        return Fitted(cls(fitted.model), fitted.held_out, fitted.curves)

    def output(self, texts: Sequence[ProductText]) -> ModelOutput:
        """Return calibrated probabilities (n, n_classes); a linear model of terms has no features."""
        return ModelOutput(self._fitted.probabilities(texts), np.empty((len(texts), 0), dtype=np.float32))
