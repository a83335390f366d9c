"""Requests for one modality."""

from __future__ import annotations

import pytest

from rayonnage_shared.ml.training.requests import ImageTrainRequest, TextTrainRequest


def test_training_one_modality_leaves_the_other_to_the_champion() -> None:
    text = TextTrainRequest(text="tfidf-svm", promote="never").training()
    assert (text.text, text.image, text.promote) == ("tfidf-svm", None, "never")
    image = ImageTrainRequest(dataset_version="20261121T081500Z-3f2a").training()
    assert (image.text, image.image, image.dataset_version) == (None, "efficientnet-lite0", "20261121T081500Z-3f2a")


@pytest.mark.parametrize("wanted", [TextTrainRequest(fusion="concatenate"), ImageTrainRequest(fusion="concatenate")])
def test_a_fusion_may_be_asked_for_with_one_modality(wanted: TextTrainRequest | ImageTrainRequest) -> None:
    assert wanted.training().fusion == "concatenate"
    assert type(wanted)().training().fusion is None
