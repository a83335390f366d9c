"""`tfidf-static`: the features of `tfidf-svm` plus a sentence embedding made of look-ups instead of a network."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import ClassVar, Self

from rayonnage_shared.ml.base.model import (
    DEFAULTS,
    Fitted,
    Fitting,
    Labels,
    ModelOutput,
    ProductText,
    Span,
    TextModel,
)
from rayonnage_shared.ml.base.parameters import Bounds, Choice, Parameters
from rayonnage_shared.ml.base.progress import part
from rayonnage_shared.ml.features.sentence_embedding import DIMENSIONS
from rayonnage_shared.ml.features.static_embedding import StaticEmbedding
from rayonnage_shared.ml.linear.text_model import LinearText


class TfidfStatic(TextModel):
    """TF-IDF, a static sentence embedding and mean word vectors; a fifth to a seventh of `tfidf-embedding`'s CPU."""

    name = "tfidf-static"
    fast = True
    parameters: ClassVar[Parameters] = {
        "penalty": 0.5,
        "character_scale": 1.4,
        "vector_scale": 0.5,
        "balance": 0.5,
    }
    bounds: ClassVar[Mapping[str, Bounds | Choice]] = {
        "penalty": Bounds(1e-4, 1e4),
        "character_scale": Bounds(0, 100),
        "vector_scale": Bounds(0, 100),
        "balance": Bounds(0, 2),
    }
    search_space: ClassVar[Mapping[str, Span | Choice]] = {
        "penalty": Span(0.05, 5, logarithmic=True),
        "character_scale": Span(0.5, 3.0),
        "vector_scale": Span(0.2, 1.5),
        "balance": Span(0.0, 1.0),
    }

    def __init__(self, fitted: LinearText, static: StaticEmbedding) -> None:
        self._fitted = fitted
        self._static = static

    @classmethod
    def fit(cls, texts: Sequence[ProductText], labels: Labels, fitting: Fitting = DEFAULTS) -> Fitted[Self]:
        """Return the model and held-out probabilities; deterministic, so the seed has no effect."""
        from rayonnage_shared.ml.features.static_training import fit_static
        from rayonnage_shared.ml.linear.text_training import LinearSettings, fit_linear_text

        numbers = {name: float(value) for name, value in cls.resolve(fitting.parameters).items()}
        settings = LinearSettings(dense_scale=numbers.pop("vector_scale"), **numbers)
        static, vectors = fit_static(texts, part(fitting.progress, 0, 0.5))
        fitted = fit_linear_text(texts, vectors, labels, settings, part(fitting.progress, 0.5, 1))
        return Fitted(cls(fitted.model, static), fitted.held_out, fitted.curves, features=vectors[:, :DIMENSIONS])

    def output(self, texts: Sequence[ProductText]) -> ModelOutput:
        """Return calibrated probabilities (n, n_classes); the features are the static embedding (n, 512)."""
        vectors = self._static.vectors(texts)
        return ModelOutput(self._fitted.probabilities(texts, vectors), vectors[:, :DIMENSIONS])

    def save(self, folder: Path) -> None:
        """Write the arrays and the tokenizer."""
        self._fitted.save(folder)
        self._static.save(folder)

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Load what `save` wrote."""
        return cls(LinearText.load(folder), StaticEmbedding.load(folder))
