"""Time a bundle on single products, as requests arrive."""

from __future__ import annotations

import time

import numpy as np

from rayonnage_shared.ml.base.model import Pixels, ProductText
from rayonnage_shared.ml.bundles.bundle import Bundle
from rayonnage_shared.ml.calibration.thresholds import MODES, Mode
from rayonnage_shared.ml.catalogue.datasets import DatasetStore
from rayonnage_shared.ml.catalogue.products import Products
from rayonnage_shared.ml.evaluation.schemas import Timing
from rayonnage_shared.ml.features.photos import PhotoLimits, read_photo

MAX_PRODUCTS = 100
ENOUGH_S = 0.5
"""Time after which a mode is not timed further, once it has MIN_PRODUCTS: large networks are slow."""
MIN_PRODUCTS = 10


def time_bundle(bundle: Bundle, products: Products, store: DatasetStore) -> list[Timing]:
    """Return milliseconds per product, for each mode that the bundle and some of the products have.

    Decoding the photo and cleaning the text are not included: they are the same for every model.
    """
    bundle.warm_up()
    texts = products.texts()
    has_text = [bundle.text_model is not None and bool(one.title or one.description) for one in texts]
    has_photo = [bundle.image_model is not None and photo is not None for photo in products.photos]
    found = []
    for mode in MODES:
        rows = [
            row
            for row in range(len(products))
            if (has_text[row] or mode == "image") and (has_photo[row] or mode == "text")
        ]
        if rows:
            chosen = [(texts[row], products.photos[row]) for row in rows[:MAX_PRODUCTS]]
            found.append(_time_mode(bundle, mode, chosen, store))
    return found


def _time_mode(
    bundle: Bundle, mode: Mode, products: list[tuple[ProductText, str | None]], store: DatasetStore
) -> Timing:
    taken: list[float] = []
    for text, photo in products:
        if len(taken) >= MIN_PRODUCTS and sum(taken) > ENOUGH_S:
            break
        pixels = None if photo is None or mode == "text" else _pixels(bundle, store, photo)
        started = time.perf_counter()
        bundle.predict(None if mode == "image" else text, pixels)
        taken.append(time.perf_counter() - started)
    median, high = 1000 * np.quantile(taken, (0.5, 0.95))
    return Timing(mode=mode, products=len(taken), median_ms=float(median), p95_ms=float(high))


def _pixels(bundle: Bundle, store: DatasetStore, photo: str) -> Pixels:
    assert bundle.image_model is not None
    return read_photo(store.photo_path(photo).read_bytes(), bundle.image_model.input_size, PhotoLimits())
