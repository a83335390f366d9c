"""`weighted`: a weighted product of both outputs, with weights fitted on held-out rows."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, Self

import numpy as np

from rayonnage_shared.ml.base.model import (
    DEFAULTS,
    FittedFusion,
    Fitting,
    FloatArray,
    Fusion,
    IntArray,
    Labels,
    ModelOutput,
    known_rows,
)
from rayonnage_shared.ml.base.parameters import Parameters
from rayonnage_shared.ml.fusion.cross_fitting import parts_of
from rayonnage_shared.ml.fusion.log_linear_pool import Pool, fit_pool

_FILE = "weights.npz"
USUAL_WEIGHTS = (1.0, 0.5)
"""The prior weights of text and photo, which dominate with few rows."""


@dataclass(frozen=True)
class WeightedFusion(Fusion):
    """A log-linear pool of both outputs: p ∝ text^text_weight · image^image_weight · exp(bias).

    `bias` (n_classes,) float32 corrects class frequencies; `rows` is the number of rows fitted on.
    """

    name: ClassVar[str] = "weighted"
    parameters: ClassVar[Parameters] = {}

    text_weight: float
    image_weight: float
    bias: FloatArray
    rows: int

    @classmethod
    def fit(
        cls, text: ModelOutput, image: ModelOutput, labels: Labels, fitting: Fitting = DEFAULTS
    ) -> FittedFusion[Self]:
        """Return the weights with the least log loss on rows where neither modality's probabilities are NaN.

        The prior (1 and 0.5, no bias) dominates with few rows, and is used alone without rows.
        """
        cls.resolve(fitting.parameters)
        by_text, by_image = text.probabilities, image.probabilities
        rows = np.flatnonzero(known_rows(by_text) & known_rows(by_image))
        held_out = np.full_like(by_text, np.nan)
        parts = parts_of(labels.take(rows))
        for number in np.unique(parts):
            others, kept_out = rows[parts != number], rows[parts == number]
            unseeing = cls._fitted(by_text[others], by_image[others], labels.classes[others])
            held_out[kept_out] = unseeing._combined(by_text[kept_out], by_image[kept_out])
        fusion = cls._fitted(by_text[rows], by_image[rows], labels.classes[rows])
        facts = {"rows": fusion.rows, "text_weight": fusion.text_weight, "image_weight": fusion.image_weight}
        return FittedFusion(fusion, held_out, facts=facts, text_alone=by_text, image_alone=by_image)

    @classmethod
    def _fitted(cls, text: FloatArray, image: FloatArray, classes: IntArray) -> Self:
        pool = fit_pool((text, image), classes, USUAL_WEIGHTS)
        text_weight, image_weight = pool.weights
        return cls(text_weight, image_weight, pool.bias, len(classes))

    def combine(self, text: ModelOutput | None, image: ModelOutput | None) -> FloatArray:
        """Return probabilities (n, n_classes) float32 whose rows sum to 1; one modality alone is returned unchanged."""
        if text is None or image is None:
            known = image if text is None else text
            if known is None:
                raise ValueError("neither text nor image was given")
            return known.probabilities
        return self._combined(text.probabilities, image.probabilities)

    def _combined(self, text: FloatArray, image: FloatArray) -> FloatArray:
        return Pool((self.text_weight, self.image_weight), self.bias).probabilities((text, image))

    def save(self, folder: Path) -> None:
        """Write weights.npz."""
        weights = np.array([self.text_weight, self.image_weight])
        np.savez(folder / _FILE, weights=weights, bias=self.bias, rows=self.rows)

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Load what `save` wrote."""
        with np.load(folder / _FILE, allow_pickle=False) as arrays:
            text_weight, image_weight = arrays["weights"].tolist()
            return cls(text_weight, image_weight, arrays["bias"], int(arrays["rows"]))
