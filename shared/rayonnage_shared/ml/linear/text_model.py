"""A linear text classifier on TF-IDF and optional dense features; `text_training.py` fits it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Self

from rayonnage_shared.ml.base.model import FloatArray, ProductText, TextModel
from rayonnage_shared.ml.calibration.curve import Calibration
from rayonnage_shared.ml.features.tfidf import Tfidf
from rayonnage_shared.ml.linear.svm import LinearModel


def tfidf_input(text: ProductText) -> str:
    """Return the input text of TF-IDF."""
    return f"{text.title} {text.description}"


@dataclass(frozen=True, slots=True)
class LinearText:
    """`linear.weights` has the rows of `tfidf` first, then those of the dense features."""

    tfidf: Tfidf
    linear: LinearModel
    calibration: Calibration

    def probabilities(self, texts: Sequence[ProductText], dense: FloatArray | None = None) -> FloatArray:
        """Return calibrated probabilities (n, n_classes); `dense` is (n, width)."""
        border = self.tfidf.size
        scores = self.tfidf.scores([tfidf_input(text) for text in texts], self.linear.weights[:border])
        if dense is not None:
            scores += dense @ self.linear.weights[border:]
        return self.calibration.probabilities(scores + self.linear.intercept)

    def save(self, folder: Path) -> None:
        """Write words.npz, characters.npz, linear.npz and calibration.npz."""
        self.tfidf.save(folder)
        self.linear.save(folder / "linear.npz")
        self.calibration.save(folder / "calibration.npz")

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Load what `save` wrote."""
        linear = LinearModel.load(folder / "linear.npz")
        return cls(Tfidf.load(folder), linear, Calibration.load(folder / "calibration.npz"))


class LinearTextModel(TextModel):
    """What the families with a linear classifier of texts share: its arrays are all that they save."""

    def __init__(self, fitted: LinearText) -> None:
        self._fitted = fitted

    def save(self, folder: Path) -> None:
        """Write the arrays."""
        self._fitted.save(folder)

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Return what `save` wrote."""
        return cls(LinearText.load(folder))
