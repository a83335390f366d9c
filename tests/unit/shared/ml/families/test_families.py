"""What every family keeps to, whichever files there are."""

from __future__ import annotations

from pathlib import Path

import pytest

from rayonnage_shared.core.errors import BadInput
from rayonnage_shared.ml.base.model import Family, FamilyNotTrainable
from rayonnage_shared.ml.base.parameters import Bounds, Choice, Parameter
from rayonnage_shared.ml.families import UnknownFamily, family_names, fusion_family, image_family, text_family
from rayonnage_shared.ml.networks.keras import runtime

FAMILIES: list[type[Family]] = [
    *map(text_family, family_names("text")),
    *map(image_family, family_names("image")),
    *map(fusion_family, family_names("fusion")),
]


def test_the_families_of_the_specification_are_there() -> None:
    assert set(family_names("text")) >= {"tfidf-svm", "tfidf-embedding", "tfidf-static", "lstm", "camembert"}
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


def beyond(bounds: Bounds | Choice, default: Parameter) -> list[Parameter]:
    """Return values of the default's type that the bounds exclude."""
    if isinstance(bounds, Choice):
        return ["nothing of the kind"]
    step = 1 if isinstance(default, int) else 0.01
    return [type(default)(value) for value in (bounds.least - step, bounds.most + step, -1_000_000)]


@pytest.mark.parametrize("family", FAMILIES, ids=lambda family: family.name)
def test_every_number_has_bounds_and_a_search_stays_within_them(family: type[Family]) -> None:
    numbers = {name for name, default in family.parameters.items() if not isinstance(default, str | bool)}
    assert numbers <= family.bounds.keys() <= family.parameters.keys()
    for name, bounds in family.bounds.items():
        assert bounds.allow(family.parameters[name])
    for name, what in family.search_space.items():
        ends = what.values if isinstance(what, Choice) else (what.low, what.high)
        assert all(family.bounds[name].allow(end) for end in ends)


@pytest.mark.parametrize("family", FAMILIES, ids=lambda family: family.name)
def test_a_value_out_of_bounds_is_refused_by_name(family: type[Family]) -> None:
    for name, bounds in family.bounds.items():
        for value in beyond(bounds, family.parameters[name]):
            with pytest.raises(BadInput, match=f"'{name}' of {family.name} must be "):
                family.resolve({name: value})


def test_a_number_gets_the_type_of_its_default() -> None:
    resolved = text_family("lstm").resolve({"epochs": 3.0, "dropout": 0})
    assert (type(resolved["epochs"]), type(resolved["dropout"])) == (int, float)
    with pytest.raises(BadInput):
        text_family("tfidf-svm").resolve({"penalty": 10**400})


@pytest.mark.parametrize("name", ["lstm", "vgg16", "resnet50"])
def test_a_keras_family_needs_its_libraries(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    family = text_family(name) if name == "lstm" else image_family(name)
    present = {"tensorflow", "keras", "tf2onnx"}
    monkeypatch.setattr(runtime, "find_spec", lambda name: name if name in present else None)
    family.check_trainable()
    present.remove("tensorflow")
    with pytest.raises(FamilyNotTrainable, match="needs tensorflow; run `make keras`"):
        family.check_trainable()


def test_camembert_needs_its_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    camembert, python = text_family("camembert"), tmp_path / "python"
    monkeypatch.setenv("CAMEMBERT_PYTHON", str(python))
    with pytest.raises(FamilyNotTrainable, match="make camembert-env"):
        camembert.check_trainable()
    for script, words in (
        ("echo torch transformers", "lacks torch, transformers; install"),
        ("exit 3", "cannot be run"),
    ):
        python.write_text(f"#!/bin/sh\n{script}\n", encoding="utf-8")
        python.chmod(0o755)
        with pytest.raises(FamilyNotTrainable, match=words):
            camembert.check_trainable()
    python.write_text("#!/bin/sh\n", encoding="utf-8")
    camembert.check_trainable()


def test_the_default_families_can_be_trained_everywhere() -> None:
    for family in FAMILIES:
        if family.name not in {"lstm", "vgg16", "resnet50", "camembert"}:
            family.check_trainable()


@pytest.mark.parametrize("name", ["gpt", "", "../text/lstm", "tfidf_svm", "__init__"])
def test_a_family_without_a_file_is_unknown(name: str) -> None:
    with pytest.raises(UnknownFamily, match="known are"):
        text_family(name)
