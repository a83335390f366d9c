from __future__ import annotations

import math

import pytest

from rayonnage_shared.core.errors import BadInput
from rayonnage_shared.ml.base.parameters import Bounds, Choice, Parameter, has_type_of
from rayonnage_shared.ml.families import image_family, text_family

FAMILIES = [text_family("lstm"), image_family("vgg16"), image_family("resnet50")]
WRONG = [
    ("epochs", 0),
    ("epochs", 1.5),
    ("patience", 0),
    ("batch_size", -1),
    ("learning_rate", 0.0),
    ("learning_rate", math.nan),
    ("dropout", 1.0),
    ("balance", -0.1),
    ("precision", "int4"),
]
WRONG_OF_PHOTOS = [
    ("input_size", 31),
    ("fine_tune_epochs", -1),
    ("fine_tune_learning_rate", 2.0),
    ("features", 0),
    ("weights", "../../etc/passwd"),
    ("weights", "/tmp/weights.h5"),
    ("weights", ".hidden.h5"),
    ("weights", "weights.pkl"),
    ("weights", "a/b.h5"),
    ("weights", "weights.h5\n"),
    ("weights", ""),
]


@pytest.mark.parametrize("value", [1, 10, 3.0])
def test_numbers_within_bounds_pass(value: float) -> None:
    assert Bounds(1, 10).allow(value)
    assert str(Bounds(1, 10_000)) == "from 1 to 10,000"


@pytest.mark.parametrize("value", [0, 0.9, 11, 10**400, math.inf, math.nan, -math.inf, "5"])
def test_other_values_do_not_lie_within_bounds(value: float | str) -> None:
    assert not Bounds(1, 10).allow(value)


def test_a_choice_allows_its_values_only() -> None:
    assert Choice(("fp32", "int8")).allow("int8")
    assert not Choice(("fp32", "int8")).allow("fp16")
    assert str(Choice(("fp32", "int8"))) == "one of fp32, int8"


@pytest.mark.parametrize("family", FAMILIES, ids=lambda family: family.name)
def test_defaults_can_be_trained_with(family: type) -> None:
    assert family.resolve({}) == family.parameters  # type: ignore[attr-defined]


@pytest.mark.parametrize("family", FAMILIES, ids=lambda family: family.name)
@pytest.mark.parametrize(("name", "value"), WRONG)
def test_values_that_mean_nothing_are_refused_before_any_training(family: type, name: str, value: float | str) -> None:
    with pytest.raises(BadInput, match=name):
        family.resolve({name: value})  # type: ignore[attr-defined]


@pytest.mark.parametrize(("name", "value"), WRONG_OF_PHOTOS)
def test_photo_families_refuse_sizes_and_paths_too(name: str, value: float | str) -> None:
    with pytest.raises(BadInput, match=name):
        image_family("vgg16").resolve({name: value})


@pytest.mark.parametrize(
    ("value", "default", "accepted"),
    [
        (2, 1.0, True),
        (2.5, 1.0, True),
        (2.5, 1, False),
        (2.0, 1, True),
        (float("nan"), 1.0, False),
        (float("inf"), 1.0, False),
        (10**400, 1.0, False),
        (True, 1, False),
        (1, True, False),
        (False, True, True),
        ("many", 1, False),
        ("cosine", "linear", True),
        (1, "linear", False),
    ],
)
def test_a_value_has_the_type_of_its_default(value: Parameter, default: Parameter, accepted: bool) -> None:
    assert has_type_of(value, default) is accepted
