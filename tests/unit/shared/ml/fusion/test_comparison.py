"""Whether a fusion may predict instead of its best part."""

from __future__ import annotations

import numpy as np
import pytest

from rayonnage_shared.ml.base.model import FloatArray, IntArray
from rayonnage_shared.ml.fusion.comparison import part_instead_of_fusion

ROWS, CLASSES = 400, 3


def said(truth: IntArray, right: float, confidence: float, seed: int) -> FloatArray:
    """Return probabilities of a model that is right so often, and so sure of what it says."""
    chance = np.random.default_rng(seed)
    named = np.where(chance.random(len(truth)) < right, truth, (truth + 1) % CLASSES)
    table = np.full((len(truth), CLASSES), (1 - confidence) / (CLASSES - 1), dtype=np.float32)
    table[np.arange(len(truth)), named] = confidence
    return table


@pytest.fixture
def truth() -> IntArray:
    return np.random.default_rng(0).integers(0, CLASSES, ROWS)


def test_a_fusion_that_is_clearly_better_than_both_parts_predicts(truth: IntArray) -> None:
    text, image, both = (said(truth, right, right, seed) for right, seed in ((0.8, 1), (0.6, 2), (0.95, 3)))
    assert part_instead_of_fusion(text, image, both, truth) is None


@pytest.mark.parametrize(
    ("right", "confidence"),
    [(0.7, 0.7), (0.8, 0.8), (0.81, 0.999)],
    ids=["right less often", "no better", "worse calibrated"],
)
def test_a_fusion_that_is_not_better_than_text_gives_way_to_it(
    truth: IntArray, right: float, confidence: float
) -> None:
    text, image, both = said(truth, 0.8, 0.8, 1), said(truth, 0.6, 0.6, 2), said(truth, right, confidence, 1)
    found = part_instead_of_fusion(text, image, both, truth)
    assert found is not None and found.part == "text"
    assert f"On {ROWS} held-out products with text and photo" in found.reason and "the text alone" in found.reason


def test_a_fusion_must_beat_the_photo_too(truth: IntArray) -> None:
    text, image, both = (said(truth, right, right, seed) for right, seed in ((0.6, 1), (0.95, 2), (0.8, 3)))
    found = part_instead_of_fusion(text, image, both, truth)
    assert found is not None and found.part == "image"


def test_only_rows_with_both_count(truth: IntArray) -> None:
    text, image, both = said(truth, 0.8, 0.8, 1), said(truth, 0.6, 0.6, 2), said(truth, 0.95, 0.95, 3)
    image[100:] = np.nan
    both[:100] = text[:100]
    found = part_instead_of_fusion(text, image, both, truth)
    assert found is not None and "On 100 held-out" in found.reason


def test_without_a_row_with_both_text_predicts(truth: IntArray) -> None:
    text = said(truth, 0.8, 0.8, 1)
    nothing = np.full_like(text, np.nan)
    found = part_instead_of_fusion(text, nothing, nothing, truth)
    assert found is not None and (found.part, found.reason[:29]) == ("text", "No held-out product has text ")
