"""Validation errors in words: the field is named, the remedy is said, and no sentence of pydantic's is shown."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Annotated, Any, ClassVar, Literal, get_args

import pytest
from pydantic import AfterValidator, Field, SecretStr, ValidationError
from pydantic_core import PydanticKnownError, core_schema
from pydantic_core._pydantic_core import list_all_errors

from rayonnage_shared.core.validation import (
    MAX_FAULTS,
    Fault,
    Matching,
    RequestModel,
    faults,
    faults_of,
    first_fault,
    unknown_field,
    wrong_value,
)


def _even(value: int) -> int:
    if value % 2:
        raise ValueError("only even numbers are taken")
    return value


def _lamp(value: str) -> str:
    if value != "lamp":
        raise wrong_value("must be a lamp")
    return value


class Order(RequestModel):
    designation: str | None = Field(None, max_length=1000)
    password: SecretStr | None = Field(None, min_length=10)
    name: str | None = Field(None, min_length=1)
    username: Annotated[str, Matching("^[a-z]+$", "must consist of small letters")] | None = None
    role: Literal["user", "admin"] = "user"
    top_k: int = Field(3, ge=1, le=27)
    active: bool = True
    even: Annotated[int, AfterValidator(_even)] = 2
    thing: Annotated[str, AfterValidator(_lamp)] = "lamp"
    counts: list[int] = Field(default_factory=list, max_length=3)


class Upload(RequestModel):
    title: str = ""
    other_fields: ClassVar[tuple[str, ...]] = ("image",)
    hints: ClassVar[Mapping[str, str]] = {"file": "Send the photo in the field `image`."}


def messages(model: type[RequestModel], value: Any) -> list[str]:
    with pytest.raises(ValidationError) as refused:
        model.model_validate(value)
    with pytest.raises(ValidationError) as as_json:
        model.model_validate_json(json.dumps(value))
    found = [fault.message for fault in faults(refused.value)]
    assert found == [fault.message for fault in faults(as_json.value)]
    return found


@pytest.mark.parametrize(
    ("value", "message"),
    [
        ({"desigation": "x"}, "Unknown field `desigation`; did you mean `designation`?"),
        ({"Top_K": 1}, "Unknown field `Top_K`; did you mean `top_k`?"),
        ({"password": "short"}, "`password` must have at least 10 characters."),
        ({"name": ""}, "`name` must not be empty."),
        ({"designation": "x" * 1001}, "`designation` must have at most 1,000 characters."),
        ({"designation": 3}, "`designation` must be a string."),
        ({"username": "Ünal"}, "`username` must consist of small letters."),
        ({"role": "root"}, "`role` must be 'user' or 'admin'."),
        ({"top_k": 0}, "`top_k` must be at least 1."),
        ({"top_k": 28}, "`top_k` must be at most 27."),
        ({"top_k": "many"}, "`top_k` must be a whole number."),
        ({"top_k": 1.5}, "`top_k` must be a whole number."),
        ({"active": "perhaps"}, "`active` must be `true` or `false`."),
        ({"even": 3}, "`even`: only even numbers are taken."),
        ({"thing": "table"}, "`thing` must be a lamp."),
        ({"counts": [1, "two"]}, "`counts.1` must be a whole number."),
        ({"counts": [1, 2, 3, 4]}, "`counts` must have at most 3 items."),
        ([], "The body must be a JSON object."),
    ],
)
def test_the_message_names_the_field_and_what_is_accepted(value: Any, message: str) -> None:
    assert messages(Order, value) == [message]


def test_without_a_similar_field_all_are_named() -> None:
    (message,) = messages(Upload, {"colour": "red"})
    assert message == "Unknown field `colour`; the fields are `title`, `image`."


def test_a_common_mistake_has_its_own_remedy() -> None:
    assert messages(Upload, {"file": "…"}) == ["Unknown field `file`. Send the photo in the field `image`."]


def test_fields_of_the_request_outside_the_model_are_suggested_too() -> None:
    assert messages(Upload, {"imge": ""}) == ["Unknown field `imge`; did you mean `image`?"]


def test_an_unknown_field_hides_no_other_fault() -> None:
    found = messages(Order, {"colour": "red", "top_k": 0, "username": "É", "even": 1, "role": "root"})
    assert [message.split()[0] for message in found] == ["Unknown", "`username`", "`role`", "`top_k`", "`even`:"]


def test_of_many_unknown_fields_the_first_is_reported_alone() -> None:
    assert messages(Order, {f"field{number}": 1 for number in range(100_000)})[0].startswith("Unknown field `field0`")


def test_the_number_of_faults_is_bounded() -> None:
    errors = [{"type": "missing", "loc": ("body", f"field{number}")} for number in range(1000)]
    assert len(faults_of(errors)) == MAX_FAULTS


def test_what_was_sent_is_not_repeated_but_for_a_short_field_name() -> None:
    (message,) = messages(Order, {"x" * 5000: "a secret"})
    assert len(message) < 300
    assert "secret" not in message


def test_a_field_name_with_a_lone_surrogate_can_be_encoded() -> None:
    with pytest.raises(ValidationError) as refused:
        Order.model_validate({"\ud800": 1})
    (fault,) = faults(refused.value)
    assert json.dumps(fault, ensure_ascii=False).encode()


@pytest.mark.parametrize(
    ("place", "subject"),
    [
        (("body", "limit"), "`limit`"),
        (("limit",), "`limit`"),
        (("query", "limit"), "Query parameter `limit`"),
        (("path", "limit"), "Path parameter `limit`"),
        (("header", "limit"), "Header `limit`"),
        (("body",), "The body"),
        ((), "The body"),
    ],
)
def test_the_place_of_a_field_is_named(place: tuple[str, ...], subject: str) -> None:
    (fault,) = faults_of([{"type": "missing", "loc": place}])
    assert fault == Fault(".".join(place) or "body", f"{subject} is required.")


@pytest.mark.parametrize(
    ("error", "where"),
    [
        ({"loc": ("body", 17), "ctx": {"error": "Expecting value"}}, "character 17"),  # FastAPI's
        ({"loc": (), "ctx": {"error": "trailing comma at line 2 column 5"}}, "line 2, column 5"),  # pydantic's
    ],
)
def test_invalid_json_is_reported_with_the_place(error: dict[str, Any], where: str) -> None:
    assert faults_of([{"type": "json_invalid", **error}]) == [
        Fault("body", f"The body is not valid JSON: see {where}.")
    ]


def test_a_fault_can_stand_inside_a_sentence() -> None:
    with pytest.raises(ValidationError) as refused:
        Order.model_validate({"top_k": 0, "role": "root"})
    assert first_fault(refused.value) == "`role` must be 'user' or 'admin'"
    with pytest.raises(ValidationError) as refused:
        Order.model_validate_json("{")
    assert first_fault(refused.value) == "it is not valid JSON: see line 1, column 1"


@pytest.mark.parametrize("kind", get_args(core_schema.ErrorType))
def test_no_error_of_pydantics_is_shown_in_its_own_words(kind: str) -> None:
    context = {str(one["type"]): one.get("example_context") for one in list_all_errors()}[kind]
    if kind in ("value_error", "assertion_error"):
        context = {"error": ValueError("only even numbers are taken")}
    raw = PydanticKnownError(kind, context).message()  # type: ignore[arg-type]
    (fault,) = faults_of([{"type": kind, "loc": ("body", "field"), "ctx": context, "msg": raw}])
    assert raw.lower() not in fault.message.lower()
    assert not any(word in fault.message for word in ("Input should", "Value error", "Extra inputs", "{", "}"))
    assert fault.message.endswith(".")


def test_the_document_states_what_is_checked() -> None:
    schema = Order.model_json_schema()
    assert schema["additionalProperties"] is False
    assert schema["properties"]["username"]["anyOf"][0]["pattern"] == "^[a-z]+$"


@pytest.mark.parametrize(("name", "known"), [("imges", "images"), ("feature", "features"), ("TARGET", "target")])
def test_a_field_of_a_form_is_suggested(name: str, known: str) -> None:
    assert unknown_field(name, ("features", "target", "images")) == f"Unknown field `{name}`; did you mean `{known}`?"


class Nested(RequestModel):
    password: SecretStr | None = None
    parameters: dict[str, str | int] = Field({})
    lists: list[list[str]] = Field([])


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("password", "a\ud800"),
        ("password", "\udfff"),
        ("parameters", {"text.\ud800": 1}),
        ("parameters", {"text": "\ud800"}),
        ("lists", [["fine", "\ud800"]]),
    ],
)
def test_text_that_cannot_be_encoded_is_refused_wherever_it_stands(field: str, value: object) -> None:
    with pytest.raises(ValidationError) as refused:
        Nested.model_validate({field: value})

    (fault,) = faults(refused.value)
    assert fault.message == f"`{field}` must be valid Unicode text."


def test_text_beyond_the_basic_plane_is_accepted() -> None:
    assert Nested.model_validate({"lists": [["\U0001f4da"]]}).lists == [["\U0001f4da"]]
