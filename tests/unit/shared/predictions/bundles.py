"""Loaded bundles with models that answer at once and always the same."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, cast

import numpy as np

from rayonnage_shared.ml.base.model import FloatArray, Fusion, ImageModel, ModelOutput, TextModel
from rayonnage_shared.ml.bundles.bundle import Bundle
from rayonnage_shared.ml.calibration.thresholds import Decisions
from tests.unit.shared.ml.bundles.manifests import VERSION, a_manifest

CODES = (10, 40, 2583)
LABELS = {10: "Livres", 40: "Jeux"}


def nothing() -> None:
    """Do nothing."""


class FakeModel:
    """Returns the same probabilities for each product, and calls `act` before."""

    input_size = 8

    def __init__(self, probabilities: tuple[float, ...], *, fast: bool, act: Callable[[], Any]) -> None:
        self.fast = fast
        self._probabilities = np.asarray([probabilities], dtype=np.float32)
        self._act = act

    def output(self, rows: Any) -> ModelOutput:
        self._act()
        return ModelOutput(np.repeat(self._probabilities, len(rows), axis=0), np.zeros((len(rows), 0), np.float32))

    def predict_proba(self, rows: Any) -> FloatArray:
        return self.output(rows).probabilities


class FakeFusion:
    """Returns the mean of the outputs that there are."""

    def combine(self, text: ModelOutput | None, image: ModelOutput | None) -> FloatArray:
        tables = [one.probabilities for one in (text, image) if one is not None]
        mean: FloatArray = np.mean(tables, axis=0, dtype=np.float32)
        return mean


def fake_bundle(
    version: str = VERSION,
    *,
    text: tuple[float, ...] | None = (0.1, 0.7, 0.2),
    image: tuple[float, ...] | None = (0.6, 0.3, 0.1),
    fast: bool = True,
    act: Callable[[], Any] = nothing,
    left_out: Mapping[str, str] | None = None,
    best_part: str | None = None,
) -> Bundle:
    """Return a bundle of the product type codes `CODES`, which accepts what is above 0.5.

    None leaves a model out, `left_out` says why; `act` is called whenever a model runs. With `best_part` there is no
    fusion.
    """
    families = {
        "text": text and "tfidf-svm",
        "image": image and "efficientnet-lite0",
        "fusion": (text and image and not best_part and "weighted") or None,
    }
    return Bundle(
        manifest=a_manifest(
            version,
            families=families,
            categories={"codes": CODES, "labels": LABELS | {2583: "2583"}},
            left_out=dict(left_out or {}),
            best_part=best_part,
        ),
        text_model=cast(TextModel, FakeModel(text, fast=fast, act=act)) if text else None,
        image_model=cast(ImageModel, FakeModel(image, fast=False, act=act)) if image else None,
        fusion=cast(Fusion, FakeFusion()) if text and image and not best_part else None,
        decisions=Decisions(0.95, {mode: np.full(3, 0.5, np.float32) for mode in ("text", "image", "both")}),
    )
