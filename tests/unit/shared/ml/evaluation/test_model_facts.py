from __future__ import annotations

import json
from pathlib import Path

import numpy as np

from rayonnage_shared.ml.base.model import Curve
from rayonnage_shared.ml.evaluation.model_facts import ModelFacts, facts_path


def test_facts_come_back_as_plain_values(tmp_path: Path) -> None:
    curve = Curve("loss", "epochs", (1.0, 2.0), (0.5, 0.25), (0.75, 0.5))
    facts = {
        "weights": Path("weights.onnx"),
        "difference": np.float32(0.5),
        "rows": np.int64(3),
        "checks": {"top": np.array([1, 2]), "lost": float("nan")},
    }

    ModelFacts("lstm", {"epochs": 3}, 12.5, facts, (curve,)).save(tmp_path, "text")

    found = ModelFacts.load(tmp_path, "text", "lstm")
    assert found.facts == {
        "weights": "weights.onnx",
        "difference": 0.5,
        "rows": 3,
        "checks": {"top": [1, 2], "lost": None},
    }
    assert (found.family, found.parameters, found.seconds, found.curves) == ("lstm", {"epochs": 3}, 12.5, (curve,))


def test_a_gap_in_a_curve_is_kept_as_one(tmp_path: Path) -> None:
    curve = Curve("loss", "epochs", (1.0, 2.0), (0.5, float("nan")), (0.75, 0.5))

    ModelFacts("lstm", curves=(curve,)).save(tmp_path, "text")

    (written,) = json.loads(facts_path(tmp_path, "text").read_text())["curves"]
    assert (written["figure"], written["train"]) == ("loss", [0.5, None])
    assert np.isnan(ModelFacts.load(tmp_path, "text", "lstm").curves[0].train[1])


def test_of_a_model_from_before_there_were_facts_the_family_is_known(tmp_path: Path) -> None:
    assert ModelFacts.load(tmp_path, "text", "tfidf-svm").described().model_dump() == {
        "family": "tfidf-svm",
        "parameters": {},
        "seconds": None,
        "demo": None,
        "facts": {},
    }
