"""What a route refuses is said in our words: every error that its parameters and its body raise for odd values."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from fastapi._compat import ModelField
from fastapi.dependencies.utils import get_flat_params
from fastapi.routing import iter_route_contexts
from pydantic import BaseModel, ValidationError

from rayonnage_shared.core.validation import MAX_FAULTS, PREDICATES, UNKNOWN_FIELD, WRONG_VALUE, RequestModel, faults_of
from rayonnage_shared.predictions.schemas import PredictJson, ProductFields
from tests.contract.test_openapi import APPS

IN_WORDS = {*PREDICATES, UNKNOWN_FIELD, WRONG_VALUE, "value_error", "json_invalid"}
MANY = {f"field{number}": number for number in range(600)}
ODD: list[Any] = [None, True, -1, 0, 1.5, 1e300, float("nan"), float("inf"), 10**30, 10**5000, "", "x", "1e999"]
ODD += ["é\x00/..", "9" * 5000, "x" * 30_000, [], [1] * 600, {}, {"x": []}, {"x": {}}, {"x": float("nan")}, MANY]


@pytest.fixture(params=APPS)
def fields(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, ModelField]:
    """The parameters and bodies of one service's routes, by route and place."""
    monkeypatch.chdir(tmp_path)
    found = {}
    for route in iter_route_contexts(APPS[request.param]().routes):
        dependant, body = getattr(route, "dependant", None), getattr(route, "body_field", None)
        for field in get_flat_params(dependant) if dependant else ():
            found[f"{route.methods} {route.path} {field.name}"] = field
        if body is not None:
            found[f"{route.methods} {route.path} body"] = body
    return found


def body_values(model: type[BaseModel]) -> Iterator[Any]:
    yield from ODD
    for name in model.model_fields:
        yield from ({name: value} for value in ODD)
        yield {f"{name[:-1]}x": 1, **MANY}


def checked(errors: list[Any], where: str) -> set[str]:
    """Return the types of these errors, all of which have messages of ours."""
    assert {error["type"] for error in errors} <= IN_WORDS, where
    found = faults_of(errors)
    assert 0 < len(found) <= MAX_FAULTS
    for error, fault in zip(errors, found, strict=False):
        if error["type"] not in (UNKNOWN_FIELD, WRONG_VALUE):
            assert error["msg"].lower() not in fault.message.lower(), where
        assert "nput should" not in fault.message and fault.message[-1] in ".?", where
    return {error["type"] for error in errors}


def model_of(field: ModelField) -> type[BaseModel] | None:
    kinds = [field.field_info.annotation, *getattr(field.field_info.annotation, "__args__", ())]
    return next((kind for kind in kinds if isinstance(kind, type) and issubclass(kind, BaseModel)), None)


def test_every_error_of_every_route_is_in_words(fields: dict[str, ModelField]) -> None:
    seen: set[str] = set()
    for where, field in fields.items():
        model = model_of(field)
        for value in body_values(model) if model else ODD:
            _, errors = field.validate(value, {}, loc=("body",) if model else ("query", field.name))
            if errors:
                seen |= checked(list(errors), where)
    assert "string_type" in seen


def test_every_body_but_the_oauth2_form_refuses_unknown_fields_one_at_a_time(fields: dict[str, ModelField]) -> None:
    for where, field in fields.items():
        model = model_of(field)
        if model is not None and model.__name__ != "LoginForm":  # RFC 6749: unknown fields are ignored
            assert issubclass(model, RequestModel), where
            _, errors = field.validate(MANY, {}, loc=("body",))
            assert [error["type"] for error in errors].count(UNKNOWN_FIELD) == 1, where


@pytest.mark.parametrize("model", [PredictJson, ProductFields])
def test_every_error_of_a_product_is_in_words(model: type[BaseModel]) -> None:
    seen: set[str] = set()
    for value in body_values(model):
        try:
            model.model_validate(value)
        except ValidationError as error:
            seen |= checked(list(error.errors()), model.__name__)
    assert {"string_too_long", "int_parsing", UNKNOWN_FIELD} <= seen
