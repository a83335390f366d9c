from __future__ import annotations

import time
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest

from rayonnage_shared.ml.base.model import Pixels, ProductText
from rayonnage_shared.ml.bundles.bundle import Bundle, Outcome
from rayonnage_shared.ml.catalogue.datasets import DatasetStore
from rayonnage_shared.ml.catalogue.products import Products
from rayonnage_shared.ml.evaluation import timing
from rayonnage_shared.ml.evaluation.schemas import Timing
from rayonnage_shared.ml.evaluation.timing import MAX_PRODUCTS, MIN_PRODUCTS, time_bundle
from tests.unit.shared.ml.features.drawn_photos import encoded, four_corners

PHOTO = "ab" * 32
TEXT_S, PHOTO_S = 0.001, 0.004


class ImageModel:
    input_size = 8


class SlowBundle:
    """Takes a known time for each modality, and remembers what it was asked."""

    def __init__(self, *, photos: bool = True, factor: float = 1) -> None:
        self.text_model = object()
        self.image_model = ImageModel() if photos else None
        self.asked: list[tuple[bool, bool]] = []
        self._factor = factor

    def warm_up(self) -> None:
        self.asked.clear()

    def predict(self, text: ProductText | None, pixels: Pixels | None) -> Outcome:
        self.asked.append((text is not None, pixels is not None))
        time.sleep(self._factor * (TEXT_S * (text is not None) + PHOTO_S * (pixels is not None)))
        return cast(Outcome, None)


def products(n: int) -> Products:
    """Products of which every second one has a photo."""
    zeros = np.zeros(n, dtype=np.int64)
    return Products(
        ids=[str(row) for row in range(n)],
        designations=["Piscine"] * n,
        descriptions=[""] * n,
        codes=zeros,
        photos=[PHOTO if row % 2 else None for row in range(n)],
        splits=np.full(n, "test"),
        folds=zeros,
        groups=zeros,
    )


@pytest.fixture
def store(tmp_path: Path) -> DatasetStore:
    found = DatasetStore(tmp_path)
    path = found.photo_path(PHOTO)
    path.parent.mkdir(parents=True)
    path.write_bytes(encoded(four_corners()))
    return found


def timed(bundle: Any, n: int, store: DatasetStore) -> dict[str, Timing]:
    return {one.mode: one for one in time_bundle(cast(Bundle, bundle), products(n), store)}


def test_each_mode_is_asked_one_product_at_a_time(store: DatasetStore) -> None:
    bundle = SlowBundle()

    found = timed(bundle, 8, store)

    assert {mode: one.products for mode, one in found.items()} == {"text": 8, "image": 4, "both": 4}
    assert bundle.asked == [(True, False)] * 8 + [(False, True)] * 4 + [(True, True)] * 4
    assert found["text"].median_ms >= 1000 * TEXT_S
    assert found["both"].median_ms >= 1000 * (TEXT_S + PHOTO_S)
    assert all(one.p95_ms >= one.median_ms for one in found.values())


def test_a_bundle_without_photos_is_timed_by_text_alone(store: DatasetStore) -> None:
    assert list(timed(SlowBundle(photos=False), 4, store)) == ["text"]


def test_no_more_products_are_asked_than_are_needed(store: DatasetStore) -> None:
    assert timed(SlowBundle(photos=False), MAX_PRODUCTS + 50, store)["text"].products == MAX_PRODUCTS


def test_a_slow_model_is_asked_a_few_times_only(store: DatasetStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(timing, "ENOUGH_S", 0.005)

    assert timed(SlowBundle(photos=False, factor=2), 50, store)["text"].products == MIN_PRODUCTS
