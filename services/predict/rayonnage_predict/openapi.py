"""The request body of the predict routes in the OpenAPI document, with examples that work as they are."""

from __future__ import annotations

from typing import Any

from rayonnage_predict.request_parsing import Only
from rayonnage_shared.predictions.schemas import PredictJson

_LEFT_OUT = {None: set[str](), "text": {"image"}, "image": {"designation", "description"}}
_TEXT_EXAMPLE = {
    "designation": "Piscine gonflable ronde 3 m",
    "description": "Livrée avec sa pompe et un tapis de sol.",
    "top_k": 3,
}
_RED_SQUARE = (  # a PNG of 16 × 16 pixels
    "iVBORw0KGgoAAAANSUhEUgAAABAAAAAQAQMAAAAlPW0iAAAAA1BMVEXIHh4WiPieAAAADElEQVR42mNgIA0AAAAwAAEodEl9AAAAAElFTkSuQmCC"
)
_PHOTO_EXAMPLE = {"image": f"data:image/png;base64,{_RED_SQUARE}", "top_k": 3}


def request_body(only: Only = None) -> dict[str, Any]:
    """Return a route's `openapi_extra`: the body in both forms, without fields that the route does not take."""
    as_json = PredictJson.model_json_schema()
    properties = {name: schema for name, schema in as_json["properties"].items() if name not in _LEFT_OUT[only]}
    as_form = {name: _form_field(schema) for name, schema in properties.items()}
    if "image" in properties:
        as_form["image"] |= {"format": "binary", "description": "JPEG, PNG or WebP, at most 5 MB."}
    return {
        "requestBody": {
            "required": True,
            "content": {
                "multipart/form-data": {
                    "schema": {"type": "object", "properties": as_form, "additionalProperties": False}
                },
                "application/json": {
                    "schema": {**as_json, "properties": properties, "title": "Product"},
                    "example": _PHOTO_EXAMPLE if only == "image" else _TEXT_EXAMPLE,
                },
            },
        }
    }


def _form_field(schema: dict[str, Any]) -> dict[str, Any]:
    """Return a form field: a number as in JSON, or a text whose default is empty instead of null.

    Without a default, Swagger UI fills in and sends the word "string".
    """
    if "anyOf" not in schema:
        return schema
    text = next(form for form in schema["anyOf"] if form["type"] == "string")
    return {**text, "default": "", "description": schema["description"]}
