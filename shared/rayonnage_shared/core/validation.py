"""Validation errors in words: which field is wrong, and what to send instead. pydantic's own sentences stay inside."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from difflib import get_close_matches
from itertools import islice
from typing import Any, ClassVar, NamedTuple, Self

from pydantic import (
    BaseModel,
    ConfigDict,
    GetCoreSchemaHandler,
    GetJsonSchemaHandler,
    ModelWrapValidatorHandler,
    ValidationError,
    model_validator,
)
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema, InitErrorDetails, PydanticCustomError, core_schema

MAX_FAULTS = 20
MAX_NAME_CHARACTERS = 64
UNKNOWN_FIELD = "unknown_field"
WRONG_VALUE = "wrong_value"
"""Type of an error whose message completes a sentence that begins with the field."""

_OBJECT, _LIST, _STRING, _BYTES = "must be a JSON object", "must be a list", "must be a string", "must be bytes"
_UNICODE = "must be valid Unicode text"
_WHOLE, _NUMBER, _BOOLEAN = "must be a whole number", "must be a number", "must be `true` or `false`"
_DATE, _TIME = "must be a date, such as 2026-11-21", "must be a time, such as 07:30:29"
_MOMENT = "must be a date and time, such as 2026-11-21T07:30:29Z"
_DURATION, _URL, _UUID = "must be a duration in seconds", "must be a URL", "must be a UUID"

PREDICATES: Mapping[str, str] = {
    "missing": "is required",
    "extra_forbidden": "is not a known field",
    "json_type": "must be a JSON text",
    "model_type": _OBJECT,
    "model_attributes_type": _OBJECT,
    "dict_type": _OBJECT,
    "mapping_type": _OBJECT,
    "invalid_key": "must have strings as keys",
    "list_type": _LIST,
    "tuple_type": _LIST,
    "set_type": _LIST,
    "frozen_set_type": _LIST,
    "too_short": "must have at least {min_length} items",
    "too_long": "must have at most {max_length} items",
    "string_type": _STRING,
    "string_unicode": _UNICODE,
    "string_too_short": "must have at least {min_length} characters",
    "string_too_long": "must have at most {max_length:,} characters",
    "string_pattern_mismatch": "has a form that is not allowed",
    "bytes_type": _BYTES,
    "int_type": _WHOLE,
    "int_parsing": _WHOLE,
    "int_from_float": _WHOLE,
    "int_parsing_size": "is too large a number",
    "float_type": _NUMBER,
    "float_parsing": _NUMBER,
    "finite_number": "must be a finite number",
    "greater_than": "must be greater than {gt}",
    "greater_than_equal": "must be at least {ge}",
    "less_than": "must be less than {lt}",
    "less_than_equal": "must be at most {le}",
    "multiple_of": "must be a multiple of {multiple_of}",
    "bool_type": _BOOLEAN,
    "bool_parsing": _BOOLEAN,
    "literal_error": "must be {expected}",
    "enum": "must be {expected}",
    "none_required": "must be null",
    "date_type": _DATE,
    "date_parsing": _DATE,
    "date_from_datetime_parsing": _DATE,
    "date_from_datetime_inexact": _DATE,
    "time_type": _TIME,
    "time_parsing": _TIME,
    "datetime_type": _MOMENT,
    "datetime_parsing": _MOMENT,
    "datetime_object_invalid": _MOMENT,
    "datetime_from_date_parsing": _MOMENT,
    "timezone_naive": "must not have a time zone",
    "timezone_aware": "must have a time zone, such as Z",
    "time_delta_type": _DURATION,
    "time_delta_parsing": _DURATION,
    "url_type": _URL,
    "url_parsing": _URL,
    "url_syntax_violation": _URL,
    "url_scheme": "must be a URL that begins with {expected_schemes}",
    "uuid_type": _UUID,
    "uuid_parsing": _UUID,
    "is_instance_of": "has a value of the wrong type",
}
"""By pydantic's error type, how a sentence that begins with the field goes on."""

_LINE_AND_COLUMN = re.compile(r"line (\d+) column (\d+)")
_BODY = "The body"
_FALLBACK = "has a value that is not valid"
_PLACES = {"body": "", "query": "Query parameter ", "path": "Path parameter ", "header": "Header ", "cookie": "Cookie "}


class Fault(NamedTuple):
    """One thing that is wrong: the field, dotted, and a sentence that names it and says what is accepted."""

    field: str
    message: str


def faults(error: ValidationError) -> list[Fault]:
    """Return what is wrong with a value, at most MAX_FAULTS faults, without repeating what was sent."""
    return faults_of(error.errors(include_url=False, include_input=False))


def faults_of(errors: Iterable[Mapping[str, Any]]) -> list[Fault]:
    """Return the faults of the errors as pydantic and FastAPI list them, at most MAX_FAULTS."""
    return [_fault(error) for error in islice(errors, MAX_FAULTS)]


def first_fault(error: ValidationError) -> str:
    """Return the first fault of a document as a clause, to stand inside a sentence."""
    return faults(error)[0].message.removesuffix(".").replace(_BODY, "it", 1)


def unknown_field(name: str, known: Collection[str]) -> str:
    """Return the sentence that refuses an unknown field, and names the one that was probably meant, or all."""
    name = _shown(name)
    close = get_close_matches(name.lower(), known, n=1)
    if close:
        return f"Unknown field `{name}`; did you mean `{close[0]}`?"
    return f"Unknown field `{name}`; the fields are {', '.join(f'`{one}`' for one in known)}."


class RequestModel(BaseModel):
    """Base of request bodies: an unknown field is refused, and the field that was probably meant is named.

    Only the first unknown field is reported: a body of a million costs no more than a body of one. Text with a lone
    surrogate, which JSON may contain and which cannot be encoded, is refused wherever it stands.
    """

    model_config = ConfigDict(extra="forbid")

    other_fields: ClassVar[tuple[str, ...]] = ()
    """Fields of the same request that are not part of this model, as a photo is of a form."""
    hints: ClassVar[Mapping[str, str]] = {}
    """By a field that clients are known to send by mistake, what to do instead."""

    @classmethod
    def unknown_field(cls, name: str) -> str:
        """Return the sentence that refuses this field."""
        if name in cls.hints:
            return f"Unknown field `{name}`. {cls.hints[name]}"
        return unknown_field(name, (*cls.model_fields, *cls.other_fields))

    @model_validator(mode="wrap")
    @classmethod
    def _refuse_unknown_fields(cls, value: Any, handler: ModelWrapValidatorHandler[Self]) -> Self:
        fields = cls.__pydantic_fields__
        if not isinstance(value, dict):
            return handler(value)
        if value.keys() <= fields.keys():
            for name, sent in value.items():
                if not _is_encodable(sent):
                    wrong = PydanticCustomError(WRONG_VALUE, _UNICODE)
                    line = InitErrorDetails(type=wrong, loc=(name,), input=None)
                    raise ValidationError.from_exception_data(cls.__name__, [line])
            return handler(value)
        name = str(next(name for name in value if name not in fields))
        lines = [
            InitErrorDetails(type=PydanticCustomError(UNKNOWN_FIELD, cls.unknown_field(name)), loc=(name,), input=None)
        ]
        try:
            handler({one: value[one] for one in fields if one in value})
        except ValidationError as error:
            lines += [_line(one) for one in error.errors(include_url=False)]
        raise ValidationError.from_exception_data(cls.__name__, lines)


@dataclass(frozen=True, slots=True)
class Matching:
    """Annotation of a string that must match `pattern`; `words` say so after "must be" or "must"."""

    pattern: str
    words: str

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        inner = core_schema.str_schema(pattern=self.pattern)
        wrong = core_schema.custom_error_schema(inner, custom_error_type=WRONG_VALUE, custom_error_message=self.words)
        return core_schema.chain_schema([handler(source), wrong])

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> JsonSchemaValue:
        return {**handler(schema["steps"][0]), "pattern": self.pattern}


def wrong_value(words: str) -> PydanticCustomError:
    """Return the error to raise in a validator; `words` complete a sentence that begins with the field."""
    return PydanticCustomError(WRONG_VALUE, words)


def _fault(error: Mapping[str, Any]) -> Fault:
    kind, context = str(error["type"]), error.get("ctx") or {}
    place, *names = [str(part) for part in error["loc"]] or [""]
    if place not in _PLACES:
        place, names = "", [place, *names] if place else names
    if kind == "json_invalid":
        return Fault(place or "body", f"{_BODY} is not valid JSON: see {_position(error, context)}.")
    field = _shown(".".join(names))
    subject = f"{_PLACES.get(place, '')}`{field}`" if field else _BODY
    return Fault(
        ".".join(filter(None, (place, field))) or "body", _sentence(kind, subject, error, context, bool(field))
    )


def _sentence(kind: str, subject: str, error: Mapping[str, Any], context: Mapping[str, Any], has_field: bool) -> str:
    if kind == UNKNOWN_FIELD:
        return str(error["msg"])
    if kind == WRONG_VALUE:
        return f"{subject} {error['msg']}."
    if kind in ("value_error", "assertion_error"):  # raised by a validator of ours, in its own words
        words = str(context.get("error") or _FALLBACK).rstrip(".")
        return f"{subject}: {words}." if has_field else f"{words[:1].upper()}{words[1:]}."
    if context.get("field_type") == "Value":  # a SecretStr
        kind = {"too_short": "string_too_short", "too_long": "string_too_long"}.get(kind, kind)
    if kind == "string_too_short" and context.get("min_length") == 1:
        return f"{subject} must not be empty."
    return f"{subject} {PREDICATES.get(kind, _FALLBACK).format(**context)}."


def _position(error: Mapping[str, Any], context: Mapping[str, Any]) -> str:
    """Return where JSON is invalid, which pydantic says in words and FastAPI by the number of a character."""
    if found := _LINE_AND_COLUMN.search(str(context.get("error"))):
        return f"line {found[1]}, column {found[2]}"
    return f"character {error['loc'][-1]}" if len(error["loc"]) > 1 else "its end"


def _line(error: Mapping[str, Any]) -> InitErrorDetails:
    kind = error["type"]
    if kind in (UNKNOWN_FIELD, WRONG_VALUE):
        kind = PydanticCustomError(kind, error["msg"])
    return InitErrorDetails(type=kind, loc=error["loc"], input=error["input"], ctx=error.get("ctx") or {})


def _is_encodable(value: Any) -> bool:
    """Return whether every string in a JSON value, keys included, can be encoded."""
    if isinstance(value, str):
        try:
            value.encode()
        except UnicodeEncodeError:
            return False
        return True
    if isinstance(value, dict):
        return all(_is_encodable(name) and _is_encodable(one) for name, one in value.items())
    return not isinstance(value, list) or all(map(_is_encodable, value))


def _shown(name: str) -> str:
    """Return a name that a caller sent, short, and without the lone surrogates that JSON may hold."""
    return name[:MAX_NAME_CHARACTERS].encode("utf-8", "replace").decode()
