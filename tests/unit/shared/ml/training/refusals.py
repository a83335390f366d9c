"""Requests that cannot be trained, over HTTP and on the command line, and the detail of the refusal."""

from __future__ import annotations

from typing import Any, NamedTuple


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
    _of_parameter("fusion.dropout", 7, "invalid_input", "Parameter 'dropout' of concatenate must be from 0 to 1."),
    Refusal(
        {"dataset_version": "20200101T000000Z-0000"},
        ["--dataset", "20200101T000000Z-0000"],
        "dataset_not_found",
        "No dataset version `20200101T000000Z-0000`; GET /datasets lists the versions.",
    ),
]
