"""A product becomes a prediction, with the time of each stage."""

from __future__ import annotations

import time

import pytest

from rayonnage_shared.core.errors import BadInput
from rayonnage_shared.ml.base.categories import Categories
from rayonnage_shared.ml.bundles.bundle import ModalityMissing
from rayonnage_shared.ml.features.photos import ImageTooLarge, NotAnImage, PhotoLimits
from rayonnage_shared.predictions.inference import TimedPrediction, predict_product
from rayonnage_shared.predictions.schemas import Modality
from tests.unit.shared.ml.features.drawn_photos import encoded, four_corners
from tests.unit.shared.predictions.bundles import CODES, fake_bundle

CATEGORIES = Categories(codes=CODES, labels={10: "Livres", 40: "Jeux vidéo"})
PHOTO = encoded(four_corners())


def test_a_prediction_from_text_and_photo_has_what_each_of_them_gives_alone() -> None:
    found = predict_product(fake_bundle(), CATEGORIES, "Piscine", None, PHOTO, product_identifier="sku-1").prediction

    assert [(one.category_id, round(one.probability, 6)) for one in found.predictions] == [
        (40, 0.5),
        (10, 0.35),
        (2583, 0.15),
    ]
    assert (found.predicted, found.predicted_category, found.category_id, found.label) == ("40", "40", 40, "Jeux vidéo")
    assert found.confidence == found.predictions[0].probability
    assert (found.modalities.text.category_id, found.modalities.image.category_id) == (40, 10)
    assert (found.model.family, found.product_identifier, found.decision) == ("fusion", "sku-1", "accept")


def test_as_many_categories_are_returned_as_are_asked_for() -> None:
    found = predict_product(fake_bundle(), CATEGORIES, "Piscine", None, None, top_k=1).prediction
    assert [one.category_id for one in found.predictions] == [40]


def test_a_code_without_a_label_here_has_the_label_that_the_bundle_was_trained_with() -> None:
    found = predict_product(fake_bundle(text=(0, 0.1, 0.9)), CATEGORIES, "Piscine", None, None).prediction
    assert (found.category_id, found.label) == (2583, "2583")


@pytest.mark.parametrize(("confidence", "decision"), [(0.6, "accept"), (0.4, "review")])
def test_the_decision_follows_from_the_threshold(confidence: float, decision: str) -> None:
    bundle = fake_bundle(text=(confidence, 0.3, 0.0))
    assert predict_product(bundle, CATEGORIES, "Piscine", None, None).prediction.decision == decision


@pytest.mark.parametrize(
    ("title", "photo", "stages"),
    [
        ("Piscine", PHOTO, ["prepare", "text", "image", "fusion"]),
        ("Piscine", None, ["prepare", "text"]),
        (None, PHOTO, ["prepare", "image"]),
        ("<p> </p>", PHOTO, ["prepare", "image"]),
    ],
)
def test_the_stages_that_were_needed_follow_each_other(
    title: str | None, photo: bytes | None, stages: list[str]
) -> None:
    before = time.perf_counter()
    timed = predict_product(fake_bundle(), CATEGORIES, title, None, photo)

    assert list(timed.stages) == stages
    moments = [moment for interval in timed.stages.values() for moment in interval]
    assert moments == sorted(moments)
    assert before <= moments[0] and moments[-1] <= time.perf_counter()


def duration_ms(timed: TimedPrediction) -> float:
    return timed.prediction.duration_ms


def test_the_duration_counts_from_the_time_at_which_the_request_came_in() -> None:
    came_in = time.perf_counter() - 60
    assert duration_ms(predict_product(fake_bundle(), CATEGORIES, "a", None, None, received_at=came_in)) > 60_000
    timed = predict_product(fake_bundle(), CATEGORIES, "a", None, None)
    begin, end = timed.stages["prepare"][0], timed.stages["text"][1]
    assert duration_ms(timed) >= round(1000 * (end - begin), 3)


def test_a_product_of_which_nothing_is_left_after_cleaning_is_refused() -> None:
    with pytest.raises(BadInput, match="no text after cleaning"):
        predict_product(fake_bundle(), CATEGORIES, "<p> </p>", "", None)


def test_a_modality_for_which_the_bundle_has_no_model_is_refused() -> None:
    with pytest.raises(ModalityMissing, match="a photo alone"):
        predict_product(fake_bundle(image=None), CATEGORIES, None, None, PHOTO)


def test_a_photo_that_the_bundle_cannot_use_changes_nothing_and_the_answer_says_so() -> None:
    bundle = fake_bundle(image=None, left_out={"image": "The dataset has 3 training photos."})

    with_photo = predict_product(bundle, CATEGORIES, "Piscine", None, PHOTO).prediction
    without = predict_product(bundle, CATEGORIES, "Piscine", None, None).prediction

    assert (with_photo.predictions, with_photo.decision) == (without.predictions, without.decision)
    reason = f"Model {bundle.version} has no photo model. The dataset has 3 training photos."
    assert with_photo.modalities.image == Modality(used=False, reason=reason)
    assert without.modalities.image == Modality(used=False)
    with pytest.raises(ModalityMissing, match=reason):
        predict_product(bundle, CATEGORIES, None, None, PHOTO)


@pytest.mark.parametrize(
    ("best_part", "title", "photo", "ignored", "family"),
    [("text", "Piscine", None, "image", "tfidf-svm"), ("image", None, PHOTO, "text", "efficientnet-lite0")],
)
def test_where_no_fusion_is_better_the_best_part_answers_as_if_it_had_been_sent_alone(
    best_part: str, title: str | None, photo: bytes | None, ignored: str, family: str
) -> None:
    bundle = fake_bundle(best_part=best_part, left_out={"fusion": "The fusion is not significantly better."})

    both = predict_product(bundle, CATEGORIES, "Piscine", None, PHOTO)
    alone = predict_product(bundle, CATEGORIES, title, None, photo).prediction

    assert (both.prediction.predictions, both.prediction.decision) == (alone.predictions, alone.decision)
    assert set(both.stages) == {"prepare", best_part}
    assert both.prediction.model.family == family
    unused = getattr(both.prediction.modalities, ignored)
    assert not unused.used and unused.reason.endswith("The fusion is not significantly better.")
    assert predict_product(bundle, CATEGORIES, "Piscine", None, None).prediction.modalities.text.used
    assert predict_product(bundle, CATEGORIES, None, None, PHOTO).prediction.modalities.image.used


def test_the_limits_of_a_photo_hold() -> None:
    with pytest.raises(ImageTooLarge):
        predict_product(fake_bundle(), CATEGORIES, None, None, PHOTO, limits=PhotoLimits(max_bytes=100))
    with pytest.raises(NotAnImage):
        predict_product(fake_bundle(), CATEGORIES, "Piscine", None, b"no photo")
