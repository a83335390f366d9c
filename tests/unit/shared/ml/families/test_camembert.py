"""What `camembert` refuses before it starts anything; tests/models/test_camembert.py trains it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from rayonnage_shared.core.errors import BadInput
from rayonnage_shared.ml.base.model import FamilyNotTrainable, Fitting, Labels, ProductText
from rayonnage_shared.ml.families.text.camembert import Camembert

TEXTS = [ProductText("bouée", "")] * 4
LABELS = Labels(np.array([0, 1, 0, 1]), np.array([0, 0, 1, 1]), 2)


@pytest.fixture(autouse=True)
def no_environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("CAMEMBERT_PYTHON", str(tmp_path / "nowhere" / "python"))


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("weights", "../../etc"),
        ("weights", "/etc"),
        ("weights", "a/../../b"),
        ("weights", ".hub"),
        ("weights", "owner/name/more"),
        ("weights", ""),
        ("epochs", 0),
        ("epochs", 2.5),
        ("batch", 100_000),
        ("max_tokens", 4),
        ("learning_rate", float("nan")),
        ("learning_rate", -1.0),
        ("width", 100),
        ("precision", "fp8"),
        ("balance", "much"),
        ("epoch", 3),
    ],
)
def test_parameters_that_mean_nothing_are_refused(name: str, value: float | int | str) -> None:
    with pytest.raises(BadInput, match=name):
        Camembert.fit(TEXTS, LABELS, Fitting({name: value}))


@pytest.mark.parametrize("weights", ["none", "camembert-base", "almanach/camembert-large", "our_own.v2"])
def test_names_of_weights_are_taken(weights: str) -> None:
    assert Camembert.resolve({"weights": weights})["weights"] == weights


def test_whole_numbers_may_come_as_floats() -> None:
    assert Camembert.resolve({"epochs": 2.0, "learning_rate": 1e-3})["epochs"] == 2


@pytest.mark.parametrize("parameters", [{}, {"weights": "none"}])
def test_without_the_environment_the_error_says_what_makes_it(parameters: dict[str, str]) -> None:
    with pytest.raises(FamilyNotTrainable, match="make camembert-env"):
        Camembert.fit(TEXTS, LABELS, Fitting(parameters))
