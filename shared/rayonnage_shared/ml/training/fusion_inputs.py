"""The inputs of a fusion that uses features: which training rows, and their stored features."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from rayonnage_shared.ml.base.model import FloatArray, IntArray, ModelOutput, ProductText, known_rows
from rayonnage_shared.ml.base.progress import Progress
from rayonnage_shared.ml.catalogue.datasets import DatasetStore
from rayonnage_shared.ml.catalogue.products import Products
from rayonnage_shared.ml.evaluation.scoring import photo_outputs, text_outputs
from rayonnage_shared.ml.families import image_family, text_family

MOST_WITH_BOTH = 20_000
"""With 1,792 features a row, fitting then takes 400 MB and 22 s of CPU. A text family holds out one fold of a large
catalogue, 17,000 of 85,000 rows, so that hardly a row is lost by it."""
MOST_WITH_ONE = 5_000
"""For each modality: what stands alone learns a number for each class from these."""
_CHUNK = 4096


def learning_rows(text: FloatArray, image: FloatArray, classes: IntArray) -> IntArray:
    """Return the positions of the rows to learn from, of held-out probabilities (n, n_classes) with NaN where missing.

    Rows with both and rows with one are thinned out evenly within each class.
    """
    has_text, has_image = known_rows(text), known_rows(image)
    kept = [
        _thinned(np.flatnonzero(rows), classes, most)
        for rows, most in (
            (has_text & has_image, MOST_WITH_BOTH),
            (has_text & ~has_image, MOST_WITH_ONE),
            (~has_text & has_image, MOST_WITH_ONE),
        )
    ]
    return np.sort(np.concatenate(kept))


def _thinned(rows: IntArray, classes: IntArray, most: int) -> IntArray:
    if len(rows) <= most:
        return rows
    by_class = rows[np.argsort(classes[rows], kind="stable")]
    return by_class[np.linspace(0, len(rows) - 1, most).astype(np.int64)]


@dataclass(frozen=True, slots=True)
class WaitingFeatures:
    """Features that a model's fitting had at hand, in a folder that outlives a killed worker.

    float16 halves them and keeps three digits; they are read through a memory map, row by row.
    """

    folder: Path

    def save(self, modality: str, ids: Sequence[str], features: FloatArray) -> None:
        """Write `features` (n, width) of the products `ids`."""
        self.folder.mkdir(parents=True, exist_ok=True)
        table = np.lib.format.open_memmap(self._path(modality), mode="w+", dtype=np.float16, shape=features.shape)
        for start in range(0, len(features), _CHUNK):
            table[start : start + _CHUNK] = features[start : start + _CHUNK]
        table.flush()
        np.save(self._path(f"{modality}.ids"), np.array(ids, dtype=np.str_))

    def find(self, modality: str, ids: Sequence[str]) -> FloatArray | None:
        """Return (len(ids), width) float32; None unless features of all these products wait."""
        if not self._path(f"{modality}.ids").exists():
            return None
        positions = {str(one): row for row, one in enumerate(np.load(self._path(f"{modality}.ids")))}
        if not positions.keys() >= set(ids):
            return None
        table = np.load(self._path(modality), mmap_mode="r")
        return np.asarray(table[[positions[one] for one in ids]], dtype=np.float32)

    def _path(self, name: str) -> Path:
        return self.folder / f"{name}.npy"


@dataclass(frozen=True, slots=True)
class FusionInputs:
    """Where what a fusion learns from is found: the two models are in `models`, by modality."""

    models: Path
    waiting: WaitingFeatures
    store: DatasetStore
    progress: Progress

    def text(
        self, family: str, products: Products, probabilities: FloatArray, wanted: NDArray[np.bool_]
    ) -> ModelOutput:
        """Return held-out outputs of the text: `probabilities` (n, n_classes), and features of the `wanted` rows.

        Features of the other rows are NaN. They are computed by the fitted model where none wait: that is honest for
        rows which have held-out probabilities (see `ModelOutput`).
        """
        rows = products.take(wanted)
        found = self.waiting.find("text", rows.ids)
        if found is None:
            model = text_family(family).load(self.models / "text")
            trial = model.output([ProductText("produit", "")])  # tells the width where no row is wanted
            found = text_outputs(model, rows, self.progress).features if len(rows) else trial.features[:0]
        return ModelOutput(probabilities, _spread(found, wanted))

    def image(
        self, family: str, products: Products, probabilities: FloatArray, wanted: NDArray[np.bool_]
    ) -> ModelOutput:
        """Return held-out outputs of the photo, as `text` does of the text."""
        rows = products.take(wanted)
        found = self.waiting.find("image", rows.ids)
        if found is None:
            model = image_family(family).load(self.models / "image")
            trial = model.output(np.zeros((1, model.input_size, model.input_size, 3), dtype=np.uint8))
            found = photo_outputs(model, rows, self.store, self.progress).features if len(rows) else trial.features[:0]
        return ModelOutput(probabilities, _spread(found, wanted))


def _spread(features: FloatArray, rows: NDArray[np.bool_]) -> FloatArray:
    table = np.full((len(rows), features.shape[1]), np.nan, dtype=np.float32)
    table[rows] = features
    return table


def without_features(probabilities: FloatArray) -> ModelOutput:
    """Return a model output for a fusion that looks at no features."""
    return ModelOutput(probabilities, np.empty((len(probabilities), 0), dtype=np.float32))
