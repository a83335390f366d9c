"""Parse a predict request, multipart or JSON, into one form, with limits."""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

from pydantic import ValidationError
from python_multipart.multipart import parse_options_header

from rayonnage_shared.core.errors import BadInput, UnsupportedMedia
from rayonnage_shared.core.validation import Fault, faults
from rayonnage_shared.http.problems import invalid_input
from rayonnage_shared.predictions.schemas import SEND_THE_PHOTO, PredictJson, ProductFields

MAX_PARTS = 16
MAX_BOUNDARY_BYTES = 70  # RFC 2046
MAX_JSON_MARKS = 50_000
"""Commas or quotes in a JSON body: the fields hold at most 40,400 characters besides the photo, so a body with more is
wrong, and parsing a million of its members would stop the whole process for a second."""
_FIELDS = frozenset(PredictJson.model_fields)
_DATA_URI = re.compile(r"data:[\w.+-]+/[\w.+-]+;base64,", re.IGNORECASE)
_AS_IT_IS = frozenset({b"", b"7bit", b"8bit", b"binary"})

Only = Literal["text", "image"] | None


class MalformedForm(BadInput):
    code, title = "malformed_form", "The form cannot be read"


@dataclass(frozen=True, slots=True)
class PredictRequest:
    """A parsed request: the fields, and the bytes of the photo as they were sent."""

    fields: ProductFields
    photo: bytes | None


class Part(NamedTuple):
    name: str
    is_file: bool
    content: bytes


def check_media_type(content_type: str) -> None:
    """Raise UnsupportedMedia unless the header names one of the two forms."""
    _media_type(content_type)


def parse(content_type: str, body: bytes, only: Only) -> PredictRequest:
    """Return the parsed request. Raises BadInput, MalformedForm or UnsupportedMedia.

    `only` refuses the other modality's fields. The form is not parsed by Starlette, whose parser takes 120 µs more for
    a 44 kB photo and spools files to disk.
    """
    media_type, options = _media_type(content_type)
    product = _from_json(body) if media_type == b"application/json" else _from_parts(options, body)
    _check_modalities(product, only)
    return product


def split_multipart(body: bytes, boundary: bytes) -> Iterator[Part]:
    """Yield the parts of a multipart body (RFC 7578). Raises MalformedForm."""
    delimiter = b"\r\n--" + boundary
    pieces = (b"\r\n" + body).split(delimiter, MAX_PARTS + 1)
    if len(pieces) < 2 or not pieces[-1].startswith(b"--"):
        raise MalformedForm(f"The form is truncated, or has more than {MAX_PARTS} parts.")
    for piece in pieces[1:-1]:
        head, blank, content = piece.partition(b"\r\n\r\n")
        headers = _part_headers(head)
        options = parse_options_header(headers.get(b"content-disposition"))[1]
        name = options.get(b"name")
        if not blank or not name:
            raise MalformedForm("A part of the form has no name or no content.")
        shown = name.decode("utf-8", "replace")
        encoding = headers.get(b"content-transfer-encoding", b"").lower()
        if encoding not in _AS_IT_IS:
            raise MalformedForm(
                f"The part `{shown[:64]}` has the Content-Transfer-Encoding `{encoding[:32].decode('latin-1')}`; "
                "send its bytes as they are (RFC 7578, section 4.7)."
            )
        yield Part(shown, b"filename" in options or b"filename*" in head, content)


def _media_type(content_type: str) -> tuple[bytes, dict[bytes, bytes]]:
    """Return the media type, one of the two forms, and its parameters. Raises UnsupportedMedia."""
    media_type, options = parse_options_header(content_type)
    if media_type not in (b"multipart/form-data", b"application/json"):
        raise UnsupportedMedia("Send multipart/form-data with an `image` file, or application/json.")
    return media_type, options


def _part_headers(head: bytes) -> dict[bytes, bytes]:
    """Return the headers of a part by lower-case name."""
    headers: dict[bytes, bytes] = {}
    for line in head.split(b"\r\n"):
        name, _, value = line.partition(b":")
        headers[name.strip().lower()] = value.strip()
    return headers


def _from_parts(options: dict[bytes, bytes], body: bytes) -> PredictRequest:
    boundary = options.get(b"boundary", b"")
    if not 0 < len(boundary) <= MAX_BOUNDARY_BYTES:
        raise MalformedForm(f"The Content-Type has no boundary, or one of more than {MAX_BOUNDARY_BYTES} characters.")
    fields: dict[str, Any] = {}
    photo: bytes | None = None
    for part in split_multipart(body, boundary):
        if part.name in fields or (part.name == "image" and photo is not None):
            raise MalformedForm(f"The field `{part.name}` occurs twice in the form.")
        if part.is_file and part.name not in _FIELDS:
            raise invalid_input([Fault(part.name, f"Unknown field `{part.name}`. {SEND_THE_PHOTO}")])
        if part.name == "image":
            if not part.is_file and part.content:
                raise MalformedForm("`image` must be a file; in JSON it may be base64.")
            photo = part.content
            continue
        try:
            fields[part.name] = part.content.decode("utf-8")
        except UnicodeDecodeError as error:
            raise MalformedForm(f"The field `{part.name}` is not UTF-8.") from error
    if fields.get("top_k") == "":
        del fields["top_k"]  # browsers send an empty string for an empty number field
    try:
        return PredictRequest(ProductFields.model_validate(fields), photo or None)
    except ValidationError as error:
        raise invalid_input(faults(error)) from error


def _from_json(body: bytes) -> PredictRequest:
    if len(body) > MAX_JSON_MARKS and max(body.count(b","), body.count(b'"')) > MAX_JSON_MARKS:
        known = ", ".join(f"`{name}`" for name in PredictJson.model_fields)
        raise BadInput(f"The body has more members than a product has; its fields are {known}.")
    try:
        sent = PredictJson.model_validate_json(body)
    except ValidationError as error:
        raise invalid_input(faults(error)) from error
    return PredictRequest(sent, _decode_image(sent.image) if sent.image else None)


def _decode_image(text: str) -> bytes:
    encoded = text[found.end() :] if (found := _DATA_URI.match(text)) else text
    try:
        return base64.b64decode("".join(encoded.split()), validate=True)
    except (binascii.Error, ValueError) as error:
        raise BadInput("`image` must be base64 or a data URI; paths and URLs are not read.") from error


def _check_modalities(product: PredictRequest, only: Only) -> None:
    has_text = product.fields.designation is not None or product.fields.description is not None
    if only == "text" and product.photo is not None:
        raise BadInput("This route predicts from text alone; send the photo to /predict or /predict/image/manual.")
    if only == "image" and has_text:
        raise BadInput("This route predicts from the photo alone; send the text to /predict or /predict/text/manual.")
    if not has_text and product.photo is None:
        wanted = {
            "text": "a `designation`",
            "image": "an `image`",
            None: "a `designation`, a `description` or an `image`",
        }
        raise BadInput(f"Send {wanted[only]}.")
