"""`tfidf-embedding`, the default: what `tfidf-svm` sees, and a multilingual sentence embedding beside it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import ClassVar, Self

from rayonnage_shared.ml.families.base import FloatArray, Labels, Parameters, ProductText, TextModel
from rayonnage_shared.ml.linear_text import LinearText
from rayonnage_shared.ml.progress import Progress, part, silent
from rayonnage_shared.ml.sentence_embedding import embedding_input, encode, encode_many


class TfidfEmbedding(TextModel):
    """TF-IDF and sentence embedding; about 3 ms for one product."""

    name = "tfidf-embedding"
    parameters: ClassVar[Mapping[str, float | int | str | bool]] = {
        "penalty": 0.5,
        "character_scale": 1.4,
        "embedding_scale": 1.0,
        "balance": 0.5,
    }

    def __init__(self, fitted: LinearText) -> None:
        self._fitted = fitted

    @classmethod
    def fit(
        cls,
        texts: Sequence[ProductText],
        labels: Labels,
        *,
        parameters: Parameters,
        seed: int,
        progress: Progress = silent,
    ) -> tuple[Self, FloatArray]:
        """Return the model and held-out probabilities; nothing in it is random, so that `seed` changes nothing."""
        from rayonnage_shared.ml.linear_text_training import LinearSettings, fit_linear_text

        numbers = {name: float(value) for name, value in cls.resolve(parameters).items()}
        settings = LinearSettings(dense_scale=numbers.pop("embedding_scale"), **numbers)
        embedding = encode_many([embedding_input(text) for text in texts], part(progress, 0, 0.5))
        fitted, held_out = fit_linear_text(texts, embedding, labels, settings, part(progress, 0.5, 1))
        return cls(fitted), held_out

    def predict_proba(self, texts: Sequence[ProductText]) -> FloatArray:
        """Return calibrated probabilities (n, n_classes)."""
        return self._fitted.probabilities(texts, encode([embedding_input(text) for text in texts]))

    def save(self, folder: Path) -> None:
        """Write the arrays."""
        self._fitted.save(folder)

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Return what `save` wrote."""
        return cls(LinearText.load(folder))
