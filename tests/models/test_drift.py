"""Drift of photos: what the photo model makes of blurred ones."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image, ImageFilter

from rayonnage_shared.drift.observations import Observations, ScoredProduct, observe
from rayonnage_shared.drift.reference import reference_of
from rayonnage_shared.drift.verdict import compare_columns
from rayonnage_shared.ml.base.categories import load_categories
from rayonnage_shared.ml.bundles.bundle import load_bundle
from rayonnage_shared.predictions.inference import predict_product
from tests.ml.answered_shop import AnsweredShop, Sent, trained_shop

pytestmark = [pytest.mark.models, pytest.mark.timeout(600)]

BLUR_PIXELS = 8  # radius, in photos of 500 × 500
ANSWERS_WITH_PHOTO = 1000


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> AnsweredShop:
    return trained_shop(tmp_path_factory.mktemp("shop"), image="efficientnet-lite0")


def blurred(photo: bytes) -> bytes:
    out = io.BytesIO()
    Image.open(io.BytesIO(photo)).convert("RGB").filter(ImageFilter.GaussianBlur(BLUR_PIXELS)).save(out, "JPEG")
    return out.getvalue()


def answers(shop: AnsweredShop, products: list[Sent]) -> Observations:
    """Return what drift sees of the champion's answers to these products."""
    bundle, categories = load_bundle(shop.folder / "models", shop.champion), load_categories(None)
    judged = []
    for sent in products:
        answer = predict_product(bundle, categories, *sent).prediction
        text, image = answer.modalities.text, answer.modalities.image
        said = (answer.category_id, answer.confidence, text.probability, image.probability)
        judged.append(ScoredProduct(sent.title, sent.description, sent.photo is not None, *said))
    return observe(judged)


def alarms(reference: Observations, current: Observations) -> set[str]:
    return {one.name for one in compare_columns(reference, current) if one.drift}


def test_blurred_photos_are_an_alarm_and_the_same_photos_are_none(shop: AnsweredShop) -> None:
    reference = observe(reference_of(shop.folder / "models", shop.folder / "data", shop.champion).products)
    products = shop.unseen()
    sharp = answers(shop, products)
    for name in ("confidence", "text_confidence", "photo_confidence"):
        assert np.allclose(sharp.columns[name], reference.columns[name], atol=1e-4, equal_nan=True)
    for seed in range(20):
        rows = np.random.default_rng(seed).integers(0, len(products), 2000)
        assert not alarms(reference, sharp.take(rows))

    dim = answers(shop, [one._replace(photo=blurred(one.photo)) for one in products if one.photo])
    rows = np.random.default_rng(1).integers(0, len(dim), ANSWERS_WITH_PHOTO)
    assert "photo_confidence" in alarms(reference, dim.take(rows))
