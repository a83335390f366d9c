"""Requests that cannot be trained, over HTTP and on the command line, and the detail of the refusal."""

from __future__ import annotations

from typing import Any, NamedTuple

import pytest

from rayonnage_shared.ml.networks.keras import runtime


class Refusal(NamedTuple):
    """One request that is refused; `body` is that of POST /train, `arguments` those of `rayonnage train`."""

    body: dict[str, Any]
    arguments: list[str]
    code: str
    detail: str


def _of_parameter(name: str, value: float | str, code: str, detail: str) -> Refusal:
    body = {"text": "tfidf-svm", "image": None, "fusion": "concatenate", "parameters": {name: value}}
    arguments = ["--text", "tfidf-svm", "--image", "none", "--fusion", "concatenate", "--parameter", f"{name}={value}"]
    return Refusal(body, arguments, code, detail)


REFUSALS = [
    _of_parameter(
        "nope",
        1,
        "unknown_parameter",
        "`nope` is not a parameter of the chosen families. Known: balance, character_scale, fusion.dropout, "
        "fusion.penalty, fusion.photo_scale, penalty, text.balance, text.character_scale, text.penalty.",
    ),
    _of_parameter(
        "text.penalty",
        "high",
        "wrong_parameter",
        "Parameter 'penalty' of tfidf-svm takes a value of type float, such as its default 0.5, not 'high'.",
    ),
    _of_parameter(
        "fusion.dropout", 7, "invalid_input", "Parameter 'dropout' of concatenate must be from 0 to 1, not 7."
    ),
    _of_parameter(
        "text.penalty", -1, "invalid_input", "Parameter 'penalty' of tfidf-svm must be from 0.0001 to 10,000, not -1."
    ),
    Refusal(
        {"image": "efficientnet-lite0", "parameters": {"image.nope": 1}},
        ["--image", "efficientnet-lite0", "--parameter", "image.nope=1"],
        "unknown_parameter",
        "`image.nope` is not a parameter of the chosen families. Known: image.penalty, image.precision, text.balance, "
        "text.character_scale, text.embedding_scale, text.penalty.",
    ),
    Refusal(
        {"image": "efficientnet-lite0", "parameters": {"image.penalty": 0}},
        ["--image", "efficientnet-lite0", "--parameter", "image.penalty=0"],
        "invalid_input",
        "Parameter 'penalty' of efficientnet-lite0 must be from 0.0001 to 10,000, not 0.",
    ),
    *(
        Refusal(
            {component: family, "parameters": {}},
            [f"--{component}", family],
            "family_not_trainable",
            "Training this family needs tensorflow; run `make keras` to install it, or choose another family.",
        )
        for component, family in (("text", "lstm"), ("image", "vgg16"), ("image", "resnet50"))
    ),
    Refusal(
        {"text": "camembert"},
        ["--text", "camembert"],
        "family_not_trainable",
        "This family is trained in a separate environment, but there is no interpreter at /nowhere/python. "
        "Run `make camembert-env`, or set CAMEMBERT_PYTHON to one with deployments/camembert/requirements.txt.",
    ),
    Refusal(
        {"dataset_version": "20200101T000000Z-0000"},
        ["--dataset", "20200101T000000Z-0000"],
        "dataset_not_found",
        "No dataset version `20200101T000000Z-0000`; GET /datasets or `rayonnage datasets` lists the versions.",
    ),
]


def without_training_libraries(monkeypatch: pytest.MonkeyPatch) -> None:
    """Hide TensorFlow and the environment with torch, which this machine may have."""
    monkeypatch.setattr(runtime, "find_spec", lambda name: None if name == "tensorflow" else name)
    monkeypatch.setenv("CAMEMBERT_PYTHON", "/nowhere/python")
