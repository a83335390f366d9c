"""What a training may be asked for."""

from __future__ import annotations

import pytest

from rayonnage_shared.core.errors import BadInput
from rayonnage_shared.ml.training.requests import ImageTrainRequest, TextTrainRequest, TrainRequest
from rayonnage_train.parameters import (
    UnknownParameter,
    check_parameters,
    fits,
    known_parameters,
    whole_request,
)


def test_training_one_modality_leaves_the_other_to_the_champion() -> None:
    text = whole_request(TextTrainRequest(text="tfidf-svm", promote="never"))
    assert (text.text, text.image, text.promote) == ("tfidf-svm", None, "never")
    image = whole_request(ImageTrainRequest(dataset_version="20261121T081500Z-3f2a"))
    assert (image.text, image.image, image.dataset_version) == (None, "efficientnet-lite0", "20261121T081500Z-3f2a")


def test_names_are_dotted_and_bare_names_need_one_modality() -> None:
    both = known_parameters(TrainRequest())
    assert both
    assert all(name.startswith(("text.", "image.")) for name in both)
    alone = known_parameters(TrainRequest(image=None))
    assert {name.removeprefix("text.") for name in alone} <= alone.keys()


def test_parameters_of_a_fusion_are_dotted_and_need_its_name() -> None:
    named = TrainRequest(image=None, fusion="concatenate", parameters={"fusion.penalty": 0.1, "penalty": 2.0})
    check_parameters(named)
    assert {"fusion.penalty", "fusion.dropout", "penalty"} <= known_parameters(named).keys()
    with pytest.raises(UnknownParameter):
        check_parameters(named.model_copy(update={"fusion": None}))


def test_a_fusion_parameter_out_of_its_range_is_refused_before_anything_is_trained() -> None:
    with pytest.raises(BadInput, match="dropout"):
        check_parameters(TrainRequest(fusion="concatenate", parameters={"fusion.dropout": 2.0}))


@pytest.mark.parametrize("wanted", [TextTrainRequest(fusion="concatenate"), ImageTrainRequest(fusion="concatenate")])
def test_a_fusion_may_be_asked_for_with_one_modality(wanted: TextTrainRequest | ImageTrainRequest) -> None:
    assert whole_request(wanted).fusion == "concatenate"
    assert whole_request(type(wanted)()).fusion is None


def test_a_name_that_no_family_knows_is_refused_with_those_it_could_be() -> None:
    with pytest.raises(UnknownParameter, match=r"Known: .*text\."):
        check_parameters(TrainRequest(parameters={"text.regularization_typo": 1}))


def test_the_families_own_defaults_are_accepted() -> None:
    check_parameters(TrainRequest(parameters=known_parameters(TrainRequest())))


@pytest.mark.parametrize(
    ("value", "default", "accepted"),
    [
        (2, 1.0, True),
        (2.5, 1.0, True),
        (2.5, 1, False),
        (float("nan"), 1.0, False),
        (float("inf"), 1.0, False),
        (True, 1, False),
        (1, True, False),
        (False, True, True),
        ("many", 1, False),
        ("cosine", "linear", True),
        (1, "linear", False),
    ],
)
def test_a_value_has_the_type_of_its_default(
    value: float | int | str | bool, default: float | int | str | bool, accepted: bool
) -> None:
    assert fits(value, default) is accepted
