from __future__ import annotations

import base64
import json

import pytest

from rayonnage_predict.request_parsing import (
    MalformedForm,
    Only,
    PredictRequest,
    read_predict_request,
    split_multipart,
)
from rayonnage_shared.core.errors import BadInput, UnsupportedMedia
from tests.unit.predict.requests import request

PHOTO = b"\xff\xd8\x00\r\n--not-the-boundary\r\n\r\n\xff\xd9"


def form(*parts: tuple[str, bytes, str | None], boundary: str = "xyz") -> bytes:
    body = b""
    for name, content, filename in parts:
        file = f'; filename="{filename}"' if filename else ""
        body += (
            f'--{boundary}\r\nContent-Disposition: form-data; name="{name}"{file}\r\n\r\n'.encode() + content + b"\r\n"
        )
    return body + f"--{boundary}--\r\n".encode()


async def read_form(*parts: tuple[str, bytes, str | None]) -> PredictRequest:
    return await read_predict_request(request("multipart/form-data; boundary=xyz", form(*parts)), None)


async def read_json(document: object) -> PredictRequest:
    return await read_predict_request(request("application/json", json.dumps(document).encode()), None)


async def test_both_forms_say_the_same() -> None:
    by_form = await read_form(
        ("designation", "Piscine à balles".encode(), None), ("top_k", b"5", None), ("image", PHOTO, "photo.jpg")
    )
    by_json = await read_json(
        {"designation": "Piscine à balles", "top_k": 5, "image": base64.b64encode(PHOTO).decode()}
    )

    assert by_form.photo == by_json.photo == PHOTO
    assert by_form.fields.designation == by_json.fields.designation == "Piscine à balles"
    assert by_form.fields.top_k == by_json.fields.top_k == 5


async def test_a_data_uri_is_base64_with_a_label() -> None:
    found = await read_json({"image": "data:image/jpeg;base64," + base64.b64encode(PHOTO).decode()})

    assert found.photo == PHOTO


@pytest.mark.parametrize("image", ["https://example.org/a.jpg", "file:///etc/passwd", "../photo.jpg", "é", "a"])
async def test_paths_and_addresses_are_refused(image: str) -> None:
    with pytest.raises(BadInput, match="paths and URLs are not read"):
        await read_json({"image": image})


@pytest.mark.parametrize(
    "document",
    [
        {},
        {"designation": ""},
        {"designation": "x", "top_k": 0},
        {"designation": "x", "top_k": 28},
        {"designation": "x" * 20_001},
        {"designation": "x", "unknown": 1},
        {"designation": ["x"]},
        [],
        "x",
    ],
)
async def test_bad_fields_are_refused(document: object) -> None:
    with pytest.raises(BadInput):
        await read_json(document)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"--xyz",
        b"--xyz\r\n\r\nno name\r\n--xyz--",
        form(("designation", b"\xff\xfe", None)),
        form(("designation", b"a", None), ("designation", b"b", None)),
        form(("image", b"not a file", None)),
        form(*((f"f{i}", b"x", None) for i in range(40))),
        form(("designation", b"a", None))[:-6],
    ],
)
async def test_malformed_forms_are_refused(body: bytes) -> None:
    with pytest.raises(BadInput):
        await read_predict_request(request("multipart/form-data; boundary=xyz", body), None)


async def test_a_form_without_boundary_is_refused() -> None:
    with pytest.raises(MalformedForm):
        await read_predict_request(request("multipart/form-data", form(("designation", b"a", None))), None)


async def test_other_content_types_are_refused() -> None:
    with pytest.raises(UnsupportedMedia):
        await read_predict_request(request("text/plain", b"designation=x"), None)


async def test_the_manual_routes_refuse_the_other_modality() -> None:
    with pytest.raises(BadInput, match="text alone"):
        await read_predict_request(
            request("application/json", json.dumps({"designation": "x", "image": "AAAA"}).encode()), "text"
        )
    with pytest.raises(BadInput, match="photo alone"):
        await read_predict_request(
            request("application/json", json.dumps({"designation": "x", "image": "AAAA"}).encode()), "image"
        )


def test_content_is_kept_to_the_byte() -> None:
    parts = list(split_multipart(form(("image", PHOTO, "a.jpg"), ("top_k", b"3", None)), b"xyz"))

    assert [(part.name, part.is_file, part.content) for part in parts] == [
        ("image", True, PHOTO),
        ("top_k", False, b"3"),
    ]


@pytest.mark.parametrize(
    "content_type",
    [
        "multipart/form-data; boundary=xyz",
        'multipart/form-data; boundary="xyz"',
        "Multipart/Form-Data; charset=utf-8; BOUNDARY=xyz",
    ],
)
async def test_the_boundary_may_be_quoted_and_in_capitals(content_type: str) -> None:
    body = form(("designation", b"Piscine", None))
    found = await read_predict_request(request(content_type, body), None)
    assert found.fields.designation == "Piscine"


async def test_empty_fields_of_a_form_count_as_missing() -> None:
    found = await read_form(
        ("designation", b"Piscine", None), ("description", b"", None), ("top_k", b"", None), ("image", b"", None)
    )
    assert (found.fields.description, found.fields.top_k, found.photo) == (None, 3, None)


async def test_a_form_with_two_photos_is_refused_even_if_the_first_is_empty() -> None:
    for first in (b"", PHOTO):
        with pytest.raises(MalformedForm, match="`image` occurs twice"):
            await read_form(("image", first, "a.jpg"), ("image", PHOTO, "b.jpg"))


async def test_each_bad_field_is_named_with_what_is_wrong() -> None:
    with pytest.raises(BadInput) as refused:
        await read_json({"designation": "x", "top_k": 0, "colour": "red"})
    errors = refused.value.extra["errors"]
    assert {error["field"] for error in errors} == {"top_k", "colour"}
    assert all(error["message"] for error in errors)
    assert "red" not in str(errors), "what was sent is not repeated"


async def test_a_body_that_is_not_json_is_named_as_the_body() -> None:
    with pytest.raises(BadInput, match=r"The body is not valid JSON: see line 1, column 1\."):
        await read_predict_request(request("application/json; charset=utf-8", b"{"), None)


@pytest.mark.parametrize(
    ("only", "wanted"),
    [
        (None, "a `designation`, a `description` or an `image`"),
        ("text", "a `designation`"),
        ("image", "an `image`"),
    ],
)
async def test_an_empty_product_is_refused_with_what_the_route_needs(only: Only, wanted: str) -> None:
    with pytest.raises(BadInput, match=f"Send {wanted}"):
        await read_predict_request(request("application/json", b'{"designation": ""}'), only)


async def test_a_misspelt_field_is_named_with_the_field_that_was_meant() -> None:
    message = r"Unknown field `desigation`; did you mean `designation`\?"
    with pytest.raises(BadInput, match=message):
        await read_json({"desigation": "Piscine"})
    with pytest.raises(BadInput, match=message):
        await read_form(("desigation", b"Piscine", None))


async def test_a_photo_in_another_field_is_refused_with_the_right_one() -> None:
    for name in ("file", "photo", "picture.jpg"):
        with pytest.raises(BadInput) as refused:
            await read_form(("designation", b"Piscine", None), (name, PHOTO, "photo.jpg"))
        assert refused.value.detail == f"Unknown field `{name}`. Send the photo in the field `image`."
        assert refused.value.extra["errors"] == [{"field": name, "message": refused.value.detail}]
    with pytest.raises(BadInput, match=r"Unknown field `file`\. Send the photo in the field `image`\."):
        await read_json({"designation": "Piscine", "file": "aGVsbG8="})
    with pytest.raises(BadInput, match=r"Unknown field `imge`; did you mean `image`\?"):
        await read_form(("imge", b"", None))
