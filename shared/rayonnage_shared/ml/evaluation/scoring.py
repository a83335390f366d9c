"""Run models over many products: for the evaluation, the gate and the command line."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from rayonnage_shared.ml.base.model import FloatArray, ImageModel, ModelOutput, TextModel
from rayonnage_shared.ml.base.progress import Progress, silent
from rayonnage_shared.ml.bundles.bundle import Bundle
from rayonnage_shared.ml.calibration.thresholds import MODES, Mode
from rayonnage_shared.ml.catalogue.datasets import DatasetStore
from rayonnage_shared.ml.catalogue.products import Products
from rayonnage_shared.ml.features.photo_features import FrozenNetworkModel
from rayonnage_shared.ml.features.photos import PhotoLimits, read_photo

BATCH = 128
PHOTO_BATCH = 16  # bounds memory; a CNN gains nothing from batches on a CPU


@dataclass(frozen=True, slots=True)
class Scores:
    """Probabilities (n, n_classes); `text` and `image` are those of one modality alone.

    Their rows are NaN if the product lacks the modality or the bundle has no model for it.
    """

    probabilities: FloatArray
    text: FloatArray
    image: FloatArray
    accepted: NDArray[np.bool_]


def score_products(bundle: Bundle, products: Products, store: DatasetStore, progress: Progress = silent) -> Scores:
    """Return the scores of each product, in order. A product without a usable modality gets equal probabilities."""
    n, n_classes = len(products), len(bundle.codes)
    scores = Scores(
        probabilities=np.full((n, n_classes), 1 / n_classes, dtype=np.float32),
        text=np.full((n, n_classes), np.nan, dtype=np.float32),
        image=np.full((n, n_classes), np.nan, dtype=np.float32),
        accepted=np.zeros(n, dtype=bool),
    )
    has_text = np.array([bool(one.title or one.description) for one in products.texts()], dtype=bool)
    has_text &= bundle.text_model is not None
    has_photo = np.array([photo is not None for photo in products.photos], dtype=bool)
    has_photo &= bundle.image_model is not None
    for mode, rows in zip(MODES, (has_text & ~has_photo, has_photo & ~has_text, has_text & has_photo), strict=True):
        positions = np.flatnonzero(rows)
        for start in range(0, len(positions), BATCH):
            some = positions[start : start + BATCH]
            _score_batch(bundle, products.take(some), store, mode, into=scores, rows=some)
            progress((start + len(some)) / len(positions), f"{start + len(some)} of {len(positions)} by {mode}")
    return scores


def _score_batch(
    bundle: Bundle, products: Products, store: DatasetStore, mode: Mode, *, into: Scores, rows: NDArray[np.int64]
) -> None:
    """Write the scores of products that all have the modalities of `mode` to the `rows` of `into`."""
    text = image = None
    if mode != "image" and bundle.text_model is not None:
        text = text_outputs(bundle.text_model, products)
        into.text[rows] = bundle.combine(text, None)
    if mode != "text" and bundle.image_model is not None:
        image = photo_outputs(bundle.image_model, products, store)
        into.image[rows] = bundle.combine(None, image)
    whole = bundle.combine(text, image)
    into.probabilities[rows] = whole
    into.accepted[rows] = whole.max(axis=1) >= bundle.decisions.thresholds[mode][whole.argmax(axis=1)]


def text_outputs(model: TextModel, products: Products, progress: Progress = silent) -> ModelOutput:
    """Return the output of each product's text, an empty one too."""
    texts = products.texts()
    found = []
    for start in range(0, len(texts), BATCH):
        found.append(model.output(texts[start : start + BATCH]))
        progress(min(1.0, (start + BATCH) / len(texts)), "scoring texts")
    return _joined(found)


def photo_outputs(
    model: ImageModel, products: Products, store: DatasetStore, progress: Progress = silent
) -> ModelOutput:
    """Return the output of each product's photo; all products must have one."""
    photos = [store.photo_path(photo) for photo in products.photos if photo is not None]
    if isinstance(model, FrozenNetworkModel):
        return model.output_of(model.photo_features.embed_files(photos, progress, store.photo_features_path))
    limits = PhotoLimits()
    found = []
    for start in range(0, len(photos), PHOTO_BATCH):
        some = photos[start : start + PHOTO_BATCH]
        pixels = [read_photo(one.read_bytes(), model.input_size, limits) for one in some]
        found.append(model.output(np.stack(pixels)))
        progress((start + len(some)) / len(photos), "scoring photos")
    return _joined(found)


def _joined(outputs: Sequence[ModelOutput]) -> ModelOutput:
    return ModelOutput(*(np.concatenate(parts) for parts in zip(*outputs, strict=True)))
