from __future__ import annotations

import base64
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from python_multipart.multipart import parse_options_header

from rayonnage_predict.request_parsing import (
    MalformedForm,
    Only,
    PredictRequest,
    parse,
    split_multipart,
)
from rayonnage_shared.core.errors import BadInput, UnsupportedMedia
from rayonnage_shared.predictions.schemas import PredictJson

PHOTO = b"\xff\xd8\x00\r\n--not-the-boundary\r\n\r\n\xff\xd9"


def form(*parts: tuple[str, bytes, str | None], boundary: str = "xyz") -> bytes:
    body = b""
    for name, content, filename in parts:
        file = f'; filename="{filename}"' if filename else ""
        body += (
            f'--{boundary}\r\nContent-Disposition: form-data; name="{name}"{file}\r\n\r\n'.encode() + content + b"\r\n"
        )
    return body + f"--{boundary}--\r\n".encode()


def read_form(*parts: tuple[str, bytes, str | None]) -> PredictRequest:
    return parse("multipart/form-data; boundary=xyz", form(*parts), None)


def read_json(document: object) -> PredictRequest:
    return parse("application/json", json.dumps(document).encode(), None)


def test_both_forms_say_the_same() -> None:
    by_form = read_form(
        ("designation", "Piscine à balles".encode(), None), ("top_k", b"5", None), ("image", PHOTO, "photo.jpg")
    )
    by_json = read_json({"designation": "Piscine à balles", "top_k": 5, "image": base64.b64encode(PHOTO).decode()})

    assert by_form.photo == by_json.photo == PHOTO
    assert by_form.fields.designation == by_json.fields.designation == "Piscine à balles"
    assert by_form.fields.top_k == by_json.fields.top_k == 5


def test_a_data_uri_is_base64_with_a_label() -> None:
    found = read_json({"image": "data:image/jpeg;base64," + base64.b64encode(PHOTO).decode()})

    assert found.photo == PHOTO


@pytest.mark.parametrize("image", ["https://example.org/a.jpg", "file:///etc/passwd", "../photo.jpg", "é", "a"])
def test_paths_and_addresses_are_refused(image: str) -> None:
    with pytest.raises(BadInput, match="paths and URLs are not read"):
        read_json({"image": image})


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
def test_bad_fields_are_refused(document: object) -> None:
    with pytest.raises(BadInput):
        read_json(document)


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
def test_malformed_forms_are_refused(body: bytes) -> None:
    with pytest.raises(BadInput):
        parse("multipart/form-data; boundary=xyz", body, None)


def test_a_form_without_boundary_is_refused() -> None:
    with pytest.raises(MalformedForm):
        parse("multipart/form-data", form(("designation", b"a", None)), None)


def test_other_content_types_are_refused() -> None:
    with pytest.raises(UnsupportedMedia):
        parse("text/plain", b"designation=x", None)


def test_the_manual_routes_refuse_the_other_modality() -> None:
    with pytest.raises(BadInput, match="text alone"):
        parse("application/json", json.dumps({"designation": "x", "image": "AAAA"}).encode(), "text")
    with pytest.raises(BadInput, match="photo alone"):
        parse("application/json", json.dumps({"designation": "x", "image": "AAAA"}).encode(), "image")


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
def test_the_boundary_may_be_quoted_and_in_capitals(content_type: str) -> None:
    body = form(("designation", b"Piscine", None))
    found = parse(content_type, body, None)
    assert found.fields.designation == "Piscine"


def test_empty_fields_of_a_form_count_as_missing() -> None:
    found = read_form(
        ("designation", b"Piscine", None), ("description", b"", None), ("top_k", b"", None), ("image", b"", None)
    )
    assert (found.fields.description, found.fields.top_k, found.photo) == (None, 3, None)


def test_a_form_with_two_photos_is_refused_even_if_the_first_is_empty() -> None:
    for first in (b"", PHOTO):
        with pytest.raises(MalformedForm, match="`image` occurs twice"):
            read_form(("image", first, "a.jpg"), ("image", PHOTO, "b.jpg"))


def test_each_bad_field_is_named_with_what_is_wrong() -> None:
    with pytest.raises(BadInput) as refused:
        read_json({"designation": "x", "top_k": 0, "colour": "red"})
    errors = refused.value.extra["errors"]
    assert {error["field"] for error in errors} == {"top_k", "colour"}
    assert all(error["message"] for error in errors)
    assert "red" not in str(errors), "what was sent is not repeated"


def test_a_body_that_is_not_json_is_named_as_the_body() -> None:
    with pytest.raises(BadInput, match=r"The body is not valid JSON: see line 1, column 1\."):
        parse("application/json; charset=utf-8", b"{", None)


@pytest.mark.parametrize(
    ("only", "wanted"),
    [
        (None, "a `designation`, a `description` or an `image`"),
        ("text", "a `designation`"),
        ("image", "an `image`"),
    ],
)
def test_an_empty_product_is_refused_with_what_the_route_needs(only: Only, wanted: str) -> None:
    with pytest.raises(BadInput, match=f"Send {wanted}"):
        parse("application/json", b'{"designation": ""}', only)


def test_a_misspelt_field_is_named_with_the_field_that_was_meant() -> None:
    message = r"Unknown field `desigation`; did you mean `designation`\?"
    with pytest.raises(BadInput, match=message):
        read_json({"desigation": "Piscine"})
    with pytest.raises(BadInput, match=message):
        read_form(("desigation", b"Piscine", None))


def test_a_photo_in_another_field_is_refused_with_the_right_one() -> None:
    for name in ("file", "photo", "picture.jpg"):
        with pytest.raises(BadInput) as refused:
            read_form(("designation", b"Piscine", None), (name, PHOTO, "photo.jpg"))
        assert refused.value.detail == f"Unknown field `{name}`. Send the photo in the field `image`."
        assert refused.value.extra["errors"] == [{"field": name, "message": refused.value.detail}]
    with pytest.raises(BadInput, match=r"Unknown field `file`\. Send the photo in the field `image`\."):
        read_json({"designation": "Piscine", "file": "aGVsbG8="})
    with pytest.raises(BadInput, match=r"Unknown field `imge`; did you mean `image`\?"):
        read_form(("imge", b"", None))


def part(disposition: bytes, content: bytes = b"Piscine", more: bytes = b"") -> bytes:
    return b"--xyz\r\n" + disposition + b"\r\n" + more + b"\r\n" + content + b"\r\n--xyz--\r\n"


def read_part(disposition: bytes, content: bytes = b"Piscine", more: bytes = b"") -> PredictRequest:
    return parse("multipart/form-data; boundary=xyz", part(disposition, content, more), None)


@pytest.mark.parametrize(
    "disposition",
    [
        b"Content-Disposition: form-data; name=designation",  # as .NET's client sends it
        b'Content-Disposition: form-data; name = "designation"',
        b'Content-Disposition: form-data;name="designation"',
        b'Content-Disposition: form-data;\tname="designation"',
        b'Content-Disposition: form-data; Name="designation"',
        b"content-disposition: FORM-DATA; NAME=designation ",
        b'Content-Disposition:form-data; charset=utf-8; name="designation"',
        b'Content-Disposition: form-data; note="; name=image"; name="designation"',
        b'Content-Type: text/plain; charset=utf-8\r\nContent-Disposition: form-data; name="designation"',
    ],
)
def test_parameters_of_a_part_are_read_as_the_standards_allow_them(disposition: bytes) -> None:
    assert read_part(disposition).fields.designation == "Piscine"


@pytest.mark.parametrize(
    "disposition",
    [
        b'Content-Disposition: form-data; name="image"; filename=a.jpg',
        b'Content-Disposition: form-data; filename = "a; name=designation.jpg"; name=image',
        b"Content-Disposition: form-data; name=image; filename*=UTF-8''%C3%A9t%C3%A9.jpg",
        b'Content-Disposition: form-data; name="image"; filename=""',
    ],
)
def test_a_part_with_any_kind_of_file_name_is_a_file(disposition: bytes) -> None:
    assert read_part(disposition, PHOTO).photo == PHOTO


@pytest.mark.parametrize(
    "disposition", [b"Content-Disposition: form-data", b'Content-Disposition: form-data; name=""', b"X-Name: image"]
)
def test_a_part_without_a_name_is_refused(disposition: bytes) -> None:
    with pytest.raises(MalformedForm, match="no name"):
        read_part(disposition)


@given(
    parameters=st.lists(
        st.tuples(
            st.sampled_from(["name", "Name", "filename", "filename*", "x"]),
            st.sampled_from(["=", " = ", "=\t"]),
            st.sampled_from(['"designation"', "designation", '"a;b"', '"a\\"b"', "", '" designation "', "'x'"]),
        ),
        max_size=4,
    ),
    space=st.sampled_from(["; ", ";", ";\t", " ;  "]),
)
def test_names_are_those_that_python_multipart_reads(parameters: list[tuple[str, str, str]], space: str) -> None:
    value = space.join(["form-data", *("".join(one) for one in parameters)]).encode()
    name = parse_options_header(value)[1].get(b"name")
    try:
        (found,) = split_multipart(part(b"Content-Disposition: " + value), b"xyz")
    except MalformedForm:
        assert not name
    else:
        assert found.name.encode() == name


@pytest.mark.parametrize("encoding", [b"base64", b"Quoted-Printable"])
def test_an_encoded_part_is_refused_with_what_to_do(encoding: bytes) -> None:
    disposition = b'Content-Disposition: form-data; name="designation"'
    with pytest.raises(MalformedForm, match=r"`designation` has the Content-Transfer-Encoding .*send its bytes as"):
        read_part(disposition, b"UGlzY2luZQ==", b"Content-Transfer-Encoding: " + encoding + b"\r\n")
    for harmless in (b"8bit", b"BINARY", b"7bit"):
        more = b"Content-Transfer-Encoding: " + harmless + b"\r\n"
        assert read_part(disposition, more=more).fields.designation == "Piscine"


@pytest.mark.parametrize(
    "body",
    [
        b'{"designation":"x",' + b",".join(b'"%x":1' % i for i in range(100_000)) + b"}",
        b'{"designation":[' + b"1," * 100_000 + b"1]}",
        b"[" + b"[]," * 100_000 + b"[]]",
    ],
)
def test_a_body_of_countless_members_is_refused_before_they_are_parsed(
    body: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(PredictJson, "model_validate_json", None)
    with pytest.raises(BadInput, match="more members than a product has"):
        parse("application/json", body, None)


def test_a_product_of_nothing_but_commas_and_quotes_is_read() -> None:
    fields = {"designation": ',"' * 10_000, "description": '"' * 20_000, "product_identifier": "," * 128}
    assert parse("application/json", json.dumps(fields).encode(), None).fields.description == '"' * 20_000
    photo = base64.b64encode(b"x" * 3_000_000).decode()
    assert parse("application/json", json.dumps({"image": photo}).encode(), None).photo == b"x" * 3_000_000
