"""Runs models over many products: for evaluation, the gate and the command line."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from rayonnage_shared.ml.bundle import Bundle
from rayonnage_shared.ml.datasets import DatasetStore
from rayonnage_shared.ml.decisions import Mode
from rayonnage_shared.ml.families.base import FloatArray, ImageModel
from rayonnage_shared.ml.photos import PhotoLimits, read_photo
from rayonnage_shared.ml.products import Products
from rayonnage_shared.ml.progress import Progress, silent

PHOTO_BATCH = 16  # bounds memory; a CNN gains nothing from batches on a CPU
TEXT_BATCH = 256


@dataclass(frozen=True, slots=True)
class Scores:
    """Probabilities (n, n_classes); `text` and `image` rows are NaN where the product lacks the modality."""

    probabilities: FloatArray
    text: FloatArray
    image: FloatArray
    accepted: NDArray[np.bool_]


def score_products(bundle: Bundle, products: Products, store: DatasetStore, progress: Progress = silent) -> Scores:
    """Return what `bundle` makes of each product, in order. A product it cannot judge gets equal probabilities."""
    n, n_classes = len(products), len(bundle.codes)
    text = np.full((n, n_classes), np.nan, dtype=np.float32)
    image = np.full((n, n_classes), np.nan, dtype=np.float32)
    texts = products.texts()
    if bundle.text_model is not None:
        rows = np.flatnonzero([bool(one.title or one.description) for one in texts])
        for start in range(0, len(rows), TEXT_BATCH):
            some = rows[start : start + TEXT_BATCH]
            text[some] = bundle.text_model.predict_proba([texts[row] for row in some])
            progress(0.3 * (start + len(some)) / len(rows), "scoring texts")
    if bundle.image_model is not None:
        rows = np.flatnonzero([photo is not None for photo in products.photos])
        if len(rows):
            image[rows] = predict_photos(bundle.image_model, products.take(rows), store, progress)
    return _combine(bundle, text, image)


def predict_photos(
    model: ImageModel, products: Products, store: DatasetStore, progress: Progress = silent
) -> FloatArray:
    """Return probabilities (n, n_classes) for products that all have a photo."""
    limits = PhotoLimits()
    found = []
    photos = [photo for photo in products.photos if photo is not None]
    for start in range(0, len(photos), PHOTO_BATCH):
        some = photos[start : start + PHOTO_BATCH]
        pixels = [read_photo(store.photo_path(one).read_bytes(), model.input_size, limits) for one in some]
        found.append(model.predict_proba(np.stack(pixels)))
        progress(0.3 + 0.7 * (start + len(some)) / len(photos), "scoring photos")
    return np.concatenate(found)


def _combine(bundle: Bundle, text: FloatArray, image: FloatArray) -> Scores:
    has_text, has_image = (~np.isnan(table).any(axis=1) for table in (text, image))
    whole = np.full(text.shape, 1 / text.shape[1], dtype=np.float32)
    accepted = np.zeros(len(text), dtype=bool)
    modes: dict[Mode, NDArray[np.bool_]] = {
        "both": has_text & has_image,
        "text": has_text & ~has_image,
        "image": has_image & ~has_text,
    }
    for mode, rows in modes.items():
        if not rows.any():
            continue
        whole[rows] = bundle.fusion.combine(
            text[rows] if mode != "image" else None, image[rows] if mode != "text" else None
        )
        accepted[rows] = bundle.decisions.accepted(mode, whole[rows])
    return Scores(whole, text, image, accepted)
