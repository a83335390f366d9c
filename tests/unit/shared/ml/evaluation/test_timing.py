from __future__ import annotations

from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest

from rayonnage_shared.ml.base.model import Pixels, ProductText
from rayonnage_shared.ml.bundles.bundle import Bundle, BundleOutput
from rayonnage_shared.ml.catalogue.datasets import DatasetStore
from rayonnage_shared.ml.catalogue.products import Products
from rayonnage_shared.ml.evaluation import timing
from rayonnage_shared.ml.evaluation.schemas import Timing
from rayonnage_shared.ml.evaluation.timing import MAX_PRODUCTS, MIN_PRODUCTS, time_bundle
from tests.clock import Clock
from tests.unit.shared.ml.features.drawn_photos import encoded, four_corners

PHOTO = "ab" * 32
TEXT_S, PHOTO_S = 0.001, 0.004


class ImageModel:
    input_size = 8


class SlowBundle:
    """Takes a known time for each modality, and remembers what it was asked."""

    def __init__(self, clock: Clock, *, photos: bool = True, factor: float = 1) -> None:
        self._clock = clock
        self.text_model = object()
        self.image_model = ImageModel() if photos else None
        self.asked: list[tuple[bool, bool]] = []
        self._factor = factor

    def warm_up(self) -> None:
        self.asked.clear()

    def predict(self, text: ProductText | None, pixels: Pixels | None) -> BundleOutput:
        self.asked.append((text is not None, pixels is not None))
        self._clock.sleep(self._factor * (TEXT_S * (text is not None) + PHOTO_S * (pixels is not None)))
        return cast(BundleOutput, None)


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


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    made = Clock()
    monkeypatch.setattr(timing, "time", made)
    return made


def timed(bundle: Any, n: int, store: DatasetStore) -> dict[str, Timing]:
    return {one.mode: one for one in time_bundle(cast(Bundle, bundle), products(n), store)}


def test_each_mode_is_asked_one_product_at_a_time(store: DatasetStore, clock: Clock) -> None:
    bundle = SlowBundle(clock)

    found = timed(bundle, 8, store)

    assert {mode: one.products for mode, one in found.items()} == {"text": 8, "image": 4, "both": 4}
    assert bundle.asked == [(True, False)] * 8 + [(False, True)] * 4 + [(True, True)] * 4
    assert found["text"].median_ms == pytest.approx(1000 * TEXT_S, rel=1e-3)
    assert found["both"].median_ms == pytest.approx(1000 * (TEXT_S + PHOTO_S), rel=1e-3)
    assert all(one.p95_ms >= one.median_ms for one in found.values())


def test_a_bundle_without_photos_is_timed_by_text_alone(store: DatasetStore, clock: Clock) -> None:
    assert list(timed(SlowBundle(clock, photos=False), 4, store)) == ["text"]


def test_no_more_products_are_asked_than_are_needed(store: DatasetStore, clock: Clock) -> None:
    assert timed(SlowBundle(clock, photos=False), MAX_PRODUCTS + 50, store)["text"].products == MAX_PRODUCTS


def test_a_slow_model_is_asked_a_few_times_only(store: DatasetStore, clock: Clock) -> None:
    factor = 2 * timing.ENOUGH_S / TEXT_S / MIN_PRODUCTS

    assert timed(SlowBundle(clock, photos=False, factor=factor), 50, store)["text"].products == MIN_PRODUCTS
