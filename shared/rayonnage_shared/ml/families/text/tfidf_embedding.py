"""`tfidf-embedding`, the default: the features of `tfidf-svm` plus a multilingual sentence embedding."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import ClassVar, Self

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
from rayonnage_shared.ml.base.progress import part
from rayonnage_shared.ml.features.sentence_embedding import embedding_input, encode, encode_many
from rayonnage_shared.ml.linear.text_model import LinearTextModel


class TfidfEmbedding(LinearTextModel):
    """TF-IDF and sentence embedding; about 3 ms for one product."""

    name = "tfidf-embedding"
    parameters: ClassVar[Parameters] = {
        "penalty": 0.5,
        "character_scale": 1.4,
        "embedding_scale": 0.8,
        "balance": 0.5,
    }
    bounds: ClassVar[Mapping[str, Bounds | Choice]] = {
        "penalty": Bounds(1e-4, 1e4),
        "character_scale": Bounds(0, 100),
        "embedding_scale": Bounds(0, 100),
        "balance": Bounds(0, 2),
    }
    search_space: ClassVar[Mapping[str, Span | Choice]] = {
        "penalty": Span(0.05, 5, logarithmic=True),
        "character_scale": Span(0.5, 3.0),
        "embedding_scale": Span(0.5, 2.0),
        "balance": Span(0.0, 1.0),
    }

    @classmethod
    def fit(cls, texts: Sequence[ProductText], labels: Labels, fitting: Fitting = DEFAULTS) -> Fitted[Self]:
        """Return the model and held-out probabilities; deterministic, so the seed has no effect."""
        from rayonnage_shared.ml.linear.text_training import LinearSettings, fit_linear_text

        numbers = {name: float(value) for name, value in cls.resolve(fitting.parameters).items()}
        settings = LinearSettings(dense_scale=numbers.pop("embedding_scale"), **numbers)
        embedding = encode_many([embedding_input(text) for text in texts], part(fitting.progress, 0, 0.5))
        fitted = fit_linear_text(texts, embedding, labels, settings, part(fitting.progress, 0.5, 1))
        return Fitted(cls(fitted.model), fitted.held_out, fitted.curves, features=embedding)

    def output(self, texts: Sequence[ProductText]) -> ModelOutput:
        """Return calibrated probabilities (n, n_classes); the features are the embedding (n, 512)."""
        embedding = encode([embedding_input(text) for text in texts])
        return ModelOutput(self._fitted.probabilities(texts, embedding), embedding)
