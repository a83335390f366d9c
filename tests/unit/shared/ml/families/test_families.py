"""What every family keeps to, whichever files there are."""

from __future__ import annotations

import pytest

from rayonnage_shared.ml.base.model import Choice, Family
from rayonnage_shared.ml.families import UnknownFamily, family_names, fusion_family, image_family, text_family

FAMILIES: list[type[Family]] = [
    *map(text_family, family_names("text")),
    *map(image_family, family_names("image")),
    *map(fusion_family, family_names("fusion")),
]


def test_the_families_of_the_specification_are_there() -> None:
    assert set(family_names("text")) >= {"tfidf-svm", "tfidf-embedding", "lstm", "camembert"}
    assert set(family_names("image")) >= {"efficientnet-lite0", "vgg16", "resnet50"}
    assert set(family_names("fusion")) >= {"weighted", "concatenate"}


@pytest.mark.parametrize("family", FAMILIES, ids=lambda family: family.name)
def test_a_family_accepts_its_own_defaults(family: type[Family]) -> None:
    assert family.resolve(family.parameters) == dict(family.parameters)


@pytest.mark.parametrize("family", FAMILIES, ids=lambda family: family.name)
def test_a_search_begins_with_defaults_that_lie_within_its_space(family: type[Family]) -> None:
    for name, what in family.search_space.items():
        default = family.parameters[name]
        if isinstance(what, Choice):
            assert default in what.values
        else:
            assert what.low <= float(default) <= what.high
            assert isinstance(default, int) or not what.whole


@pytest.mark.parametrize("name", ["gpt", "", "../text/lstm", "tfidf_svm", "__init__"])
def test_a_family_without_a_file_is_unknown(name: str) -> None:
    with pytest.raises(UnknownFamily, match="known are"):
        text_family(name)
