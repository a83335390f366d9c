"""The training inputs of a fusion that uses features: its rows, and their features."""

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
catalogue (17,000 of 85,000 rows), so the limit removes few rows."""
MOST_WITH_ONE = 5_000
"""For each modality alone, whose correction has only a few parameters per class."""
_CHUNK = 4096


def learning_rows(text: FloatArray, image: FloatArray, classes: IntArray) -> IntArray:
    """Return the positions of the training rows; probabilities (n, n_classes) are held out, NaN where missing.

    Rows with both modalities and rows with one are subsampled evenly within each class.
    """
    has_text, has_image = known_rows(text), known_rows(image)
    kept = [
        _subsampled(np.flatnonzero(rows), classes, most)
        for rows, most in (
            (has_text & has_image, MOST_WITH_BOTH),
            (has_text & ~has_image, MOST_WITH_ONE),
            (~has_text & has_image, MOST_WITH_ONE),
        )
    ]
    return np.sort(np.concatenate(kept))


def _subsampled(rows: IntArray, classes: IntArray, most: int) -> IntArray:
    if len(rows) <= most:
        return rows
    by_class = rows[np.argsort(classes[rows], kind="stable")]
    return by_class[np.linspace(0, len(rows) - 1, most).astype(np.int64)]


@dataclass(frozen=True, slots=True)
class StoredFeatures:
    """Features computed while a model was fitted, in a folder that survives a killed worker.

    Stored as float16, which keeps three digits, and read row by row through a memory map.
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
        """Return (len(ids), width) float32; None unless the features of all these products are stored."""
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
    """Provides the inputs of a fusion. `models` is the folder of the fitted models, by modality."""

    models: Path
    stored: StoredFeatures
    store: DatasetStore
    progress: Progress

    def text(
        self, family: str, products: Products, probabilities: FloatArray, wanted: NDArray[np.bool_]
    ) -> ModelOutput:
        """Return held-out outputs for the texts: `probabilities` (n, n_classes), and features of the `wanted` rows.

        Features of the other rows are NaN. Features that are not stored are computed by the fitted model, which is
        valid for rows with held-out probabilities (see `ModelOutput`).
        """
        rows = products.take(wanted)
        features = self.stored.find("text", rows.ids)
        if features is None:
            model = text_family(family).load(self.models / "text")
            trial = model.output([ProductText("produit", "")])  # for the width, if no row is wanted
            features = text_outputs(model, rows, self.progress).features if len(rows) else trial.features[:0]
        return ModelOutput(probabilities, _spread(features, wanted))

    def image(
        self, family: str, products: Products, probabilities: FloatArray, wanted: NDArray[np.bool_]
    ) -> ModelOutput:
        """Return held-out outputs for the photos, as `text` does for the texts."""
        rows = products.take(wanted)
        features = self.stored.find("image", rows.ids)
        if features is None:
            model = image_family(family).load(self.models / "image")
            trial = model.output(np.zeros((1, model.input_size, model.input_size, 3), dtype=np.uint8))
            features = (
                photo_outputs(model, rows, self.store, self.progress).features if len(rows) else trial.features[:0]
            )
        return ModelOutput(probabilities, _spread(features, wanted))


def _spread(features: FloatArray, rows: NDArray[np.bool_]) -> FloatArray:
    table = np.full((len(rows), features.shape[1]), np.nan, dtype=np.float32)
    table[rows] = features
    return table


def without_features(probabilities: FloatArray) -> ModelOutput:
    """Return the model output for a fusion that does not use features."""
    return ModelOutput(probabilities, np.empty((len(probabilities), 0), dtype=np.float32))
