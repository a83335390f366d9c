"""What the OpenAPI document says of a predict request is what the service takes."""

from __future__ import annotations

import json
from typing import Any

import pytest

from rayonnage_predict.openapi import request_body
from rayonnage_predict.request_parsing import Only, parse
from rayonnage_shared.ml.features.photos import PhotoLimits, read_photo


def content(only: Only, media_type: str) -> dict[str, Any]:
    found: dict[str, Any] = request_body(only)["requestBody"]["content"][media_type]
    return found


@pytest.mark.parametrize("only", [None, "text", "image"])
def test_the_json_example_is_a_product_that_the_route_takes(only: Only) -> None:
    example = content(only, "application/json")["example"]

    product = parse("application/json", json.dumps(example).encode(), only)

    assert (product.photo is not None) == (only != "text")
    assert (product.fields.designation is not None) == (only != "image")
    if product.photo is not None:
        assert read_photo(product.photo, 16, PhotoLimits()).shape == (16, 16, 3)


@pytest.mark.parametrize("media_type", ["multipart/form-data", "application/json"])
def test_title_photo_and_description_come_before_ids_and_top_k(media_type: str) -> None:
    fields = list(content(None, media_type)["schema"]["properties"])
    assert fields[:3] == ["designation", "image", "description"]
    assert fields[3:] == ["product_identifier", "product_id", "imageid", "top_k"]


def as_shown() -> dict[str, Any]:
    """The form as Swagger UI fills it in."""
    fields = content(None, "multipart/form-data")["schema"]["properties"]
    return {name: field.get("example", field.get("default")) for name, field in fields.items()}


def test_the_form_as_it_stands_is_the_product_of_the_json_example() -> None:
    parts = "".join(
        f'--xyz\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n{value}\r\n'
        for name, value in as_shown().items()
    )

    product = parse("multipart/form-data; boundary=xyz", f"{parts}--xyz--".encode(), None)

    example = content(None, "application/json")["example"]
    assert product.fields.model_dump(exclude_none=True) == {name: example[name] for name in example if name != "image"}


def test_a_form_sent_with_its_defaults_and_a_title_is_that_title_alone() -> None:
    defaults = {
        name: field.get("default", "")
        for name, field in content(None, "multipart/form-data")["schema"]["properties"].items()
    }
    filled = defaults | {"designation": "Piscine"}
    parts = "".join(
        f'--xyz\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n{value}\r\n' for name, value in filled.items()
    )

    product = parse("multipart/form-data; boundary=xyz", f"{parts}--xyz--".encode(), None)

    assert product.photo is None
    assert product.fields.model_dump(exclude_none=True) == {"designation": "Piscine", "top_k": 3}


@pytest.mark.parametrize("media_type", ["multipart/form-data", "application/json"])
def test_the_manual_routes_show_the_fields_of_their_modality(media_type: str) -> None:
    assert "image" not in content("text", media_type)["schema"]["properties"]
    assert not {"designation", "description"} & content("image", media_type)["schema"]["properties"].keys()
