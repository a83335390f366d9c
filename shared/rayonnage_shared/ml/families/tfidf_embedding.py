"""`tfidf-embedding`, the default: what `tfidf-svm` sees, and a multilingual sentence embedding beside it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import ClassVar, Self

from rayonnage_shared.ml.calibration import Calibration
from rayonnage_shared.ml.families.base import FloatArray, Labels, Parameters, ProductText, TextModel
from rayonnage_shared.ml.linear import LinearModel
from rayonnage_shared.ml.linear_text import LinearSettings, LinearText, fit_linear_text, tfidf_input
from rayonnage_shared.ml.progress import Progress, part, silent
from rayonnage_shared.ml.sentence_embedding import embedding_input, encode, encode_many
from rayonnage_shared.ml.tfidf import Tfidf


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
        self._sparse_weights = fitted.linear.weights[: fitted.tfidf.size]
        self._embedding_weights = fitted.linear.weights[fitted.tfidf.size :]

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
        numbers = {name: float(value) for name, value in cls.resolve(parameters).items()}
        settings = LinearSettings(dense_scale=numbers.pop("embedding_scale"), **numbers)
        embedding = encode_many([embedding_input(text) for text in texts], part(progress, 0, 0.5))
        fitted, held_out = fit_linear_text(texts, embedding, labels, settings, part(progress, 0.5, 1))
        return cls(fitted), held_out

    def predict_proba(self, texts: Sequence[ProductText]) -> FloatArray:
        """Return calibrated probabilities (n, n_classes)."""
        fitted = self._fitted
        scores = fitted.tfidf.scores([tfidf_input(text) for text in texts], self._sparse_weights)
        scores += encode([embedding_input(text) for text in texts]) @ self._embedding_weights
        return fitted.calibration.probabilities(scores + fitted.linear.intercept)

    def save(self, folder: Path) -> None:
        """Write words.npz, characters.npz, linear.npz and calibration.npz."""
        self._fitted.tfidf.save(folder)
        self._fitted.linear.save(folder / "linear.npz")
        self._fitted.calibration.save(folder / "calibration.npz")

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Return what `save` wrote."""
        linear = LinearModel.load(folder / "linear.npz")
        return cls(LinearText(Tfidf.load(folder), linear, Calibration.load(folder / "calibration.npz")))
