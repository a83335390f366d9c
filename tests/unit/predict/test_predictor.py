"""A prediction is returned, counted and logged."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from prometheus_client import REGISTRY

from rayonnage_predict.predictor import Caller
from rayonnage_predict.request_parsing import PredictRequest
from rayonnage_shared.ml.bundles.bundle import Bundle
from rayonnage_shared.ml.bundles.manifest import VERSION_PATTERN
from rayonnage_shared.ml.features.photos import NotAnImage
from rayonnage_shared.predictions.schemas import Prediction, PredictionDocument, ProductFields
from tests.unit.predict.shop import Shop
from tests.unit.shared.ml.features.drawn_photos import encoded, four_corners
from tests.unit.shared.predictions.bundles import LABELS, fake_bundle

FIRST = "20260101T000000Z-abcd"
PHOTO = encoded(four_corners())
TITLE = PredictRequest(ProductFields(designation="Piscine", product_identifier="sku-1", top_k=2), None)
TITLE_AND_PHOTO = PredictRequest(ProductFields(designation="Piscine"), PHOTO)


@pytest.fixture
def shop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Shop:
    return Shop(tmp_path, monkeypatch)


def predict(
    shop: Shop, bundle: Bundle, product: PredictRequest, request_id: str = "request-1", language: str | None = None
) -> PredictionDocument:
    return shop.predictor.predict(bundle, product, Caller("jane", request_id, time.perf_counter(), language))


@contextmanager
def counted(name: str, by: float, **labels: str) -> Iterator[None]:
    before = REGISTRY.get_sample_value(f"rayonnage_{name}", labels) or 0.0
    yield
    assert (REGISTRY.get_sample_value(f"rayonnage_{name}", labels) or 0.0) - before == by, (name, labels)


def test_labels_are_in_the_language_that_the_caller_wants(shop: Shop) -> None:
    usual, english = [predict(shop, fake_bundle(), TITLE_AND_PHOTO, language=language) for language in (None, "en")]
    assert usual["label"] in LABELS.values()
    assert english["label"] == f"{usual['label']} in English"
    assert list(shop.predictor.languages) == ["en"]


def test_a_prediction_is_returned_and_logged_for_its_caller(shop: Shop) -> None:
    found = predict(shop, fake_bundle(FIRST), TITLE, "request-7")

    assert (found["category_id"], found["label"], found["product_identifier"]) == (40, "Jeux", "sku-1")
    assert len(found["predictions"]) == 2
    assert VERSION_PATTERN.fullmatch(found["model"]["version"])
    assert Prediction.model_validate(found).model_dump(mode="json") == found, "the declared answer has nothing else"
    assert shop.notes.all == [(found, TITLE.fields, None, "jane", "request-7")]


def test_a_prediction_is_counted_with_the_time_of_each_stage(shop: Shop) -> None:
    version = {"model_version": FIRST}
    with (
        counted("predictions_total", 1, category="40", decision="accept", **version),
        counted("prediction_confidence_count", 2),
        counted("prediction_stage_seconds_count", 2, stage="prepare"),
        counted("prediction_stage_seconds_count", 2, stage="text"),
        counted("prediction_stage_seconds_count", 1, stage="image"),
        counted("prediction_stage_seconds_count", 1, stage="fusion"),
    ):
        predict(shop, fake_bundle(FIRST), TITLE)  # 0.7
        with counted("predictions_total", 1, category="40", decision="review", **version):
            predict(shop, fake_bundle(FIRST, text=(0.1, 0.6, 0.3), image=(0.3, 0.3, 0.4)), TITLE_AND_PHOTO)  # 0.45


def test_a_product_that_is_refused_is_neither_counted_nor_logged(shop: Shop) -> None:
    with counted("prediction_confidence_count", 0), pytest.raises(NotAnImage):
        predict(shop, fake_bundle(FIRST), PredictRequest(ProductFields(), b"no photo"))
    assert shop.notes.all == []
