"""The request body of the predict routes in the OpenAPI document, with examples that work as they are."""

from __future__ import annotations

import base64
from importlib import resources
from typing import Any

from rayonnage_predict.request_parsing import Only
from rayonnage_shared.predictions.schemas import PredictJson

_FIELDS = ("designation", "image", "description", "product_identifier", "product_id", "imageid", "top_k")
_LEFT_OUT = {None: set[str](), "text": {"image"}, "image": {"designation", "description"}}
_EXAMPLE = {
    "designation": "Piscine gonflable ronde 3 m",
    "description": "Livrée avec sa pompe et un tapis de sol.",
    "top_k": 3,
}


def request_body(only: Only = None) -> dict[str, Any]:
    """Return a route's `openapi_extra`: the body in both forms, without fields that the route does not take."""
    as_json = PredictJson.model_json_schema()
    fields = [name for name in _FIELDS if name not in _LEFT_OUT[only]]
    properties = {name: as_json["properties"][name] for name in fields}
    as_form = {name: _form_field(name, schema) for name, schema in properties.items()}
    example = _EXAMPLE | {"image": _photo_example()}
    return {
        "requestBody": {
            "required": True,
            "content": {
                "multipart/form-data": {
                    "schema": {"type": "object", "properties": as_form, "additionalProperties": False}
                },
                "application/json": {
                    "schema": {**as_json, "properties": properties, "title": "Product"},
                    "example": {name: example[name] for name in fields if name in example},
                },
            },
        }
    }


def _photo_example() -> str:
    """Return a small photo of a swimming pool as a data URI."""
    photo = (resources.files(__package__) / "example.webp").read_bytes()
    return f"data:image/webp;base64,{base64.b64encode(photo).decode()}"


def _form_field(name: str, schema: dict[str, Any]) -> dict[str, Any]:
    """Return a form field: a number as in JSON, a text with its example, or an empty text.

    Without an example or a default, Swagger UI fills in and sends the word "string".
    """
    if "anyOf" not in schema:
        return schema
    text = next(form for form in schema["anyOf"] if form["type"] == "string")
    field = {**text, "description": schema["description"]}
    if name == "image":
        field |= {"format": "binary", "description": "JPEG, PNG or WebP, at most 5 MB."}
    return field | ({"example": _EXAMPLE[name]} if name in _EXAMPLE else {"default": ""})
