"""Multipart bodies, written to disk as they come."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
from fastapi import Request
from starlette.requests import ClientDisconnect

from rayonnage_ingest.uploads import Upload, UploadBroken, UploadTooSlow, receive_upload
from rayonnage_shared.core.errors import BadInput, BodyTooLarge, UnsupportedMedia

FORM = "multipart/form-data; boundary=xyz"


def body(*parts: tuple[str, str | None, bytes], end: bytes = b"--xyz--\r\n") -> bytes:
    whole = b""
    for name, filename, data in parts:
        disposition = f'form-data; name="{name}"' + (f'; filename="{filename}"' if filename is not None else "")
        whole += f"--xyz\r\nContent-Disposition: {disposition}\r\n\r\n".encode() + data + b"\r\n"
    return whole + end


async def receive(
    folder: Path, chunks: Sequence[bytes], content_type: str = FORM, pause_s: float = 0, ends: bool = True
) -> Upload:
    messages: list[dict[str, Any]] = [{"type": "http.request", "body": chunk, "more_body": True} for chunk in chunks]
    if ends:
        messages.append({"type": "http.request", "body": b"", "more_body": False})

    async def next_message() -> dict[str, Any]:
        await asyncio.sleep(pause_s)
        return messages.pop(0) if messages else {"type": "http.disconnect"}

    scope = {"type": "http", "method": "POST", "headers": [(b"content-type", content_type.encode())]}
    return await receive_upload(
        Request(scope, next_message), folder, max_bytes=50_000, timeout_s=60, idle_timeout_s=0.2
    )


async def test_parts_land_in_files_whatever_the_chunks(tmp_path: Path) -> None:
    data = bytes(range(256)) * 10
    whole = body(
        ("features", "f.csv", b"designation\r\na\r\n"), ("images", "i.zip", data), ("allow_new_codes", None, b"true")
    )
    for size in (1, 7, 10_000):
        upload = await receive(tmp_path, [whole[i : i + size] for i in range(0, len(whole), size)])
        assert upload.features is not None
        assert upload.features.read_bytes() == b"designation\r\na\r\n"
        assert upload.images is not None
        assert upload.images.read_bytes() == data
        assert (upload.target, upload.allow_new_codes) == (None, True)


async def test_an_empty_part_is_a_file_that_was_not_chosen(tmp_path: Path) -> None:
    upload = await receive(tmp_path, [body(("features", "f.csv", b"x"), ("target", "", b""), ("images", "", b""))])
    assert (upload.target, upload.images, upload.allow_new_codes) == (None, None, False)


async def test_feedback_stands_in_place_of_files(tmp_path: Path) -> None:
    upload = await receive(tmp_path, [body(("from_feedback", None, b"true"), ("features", "", b""))])
    assert upload == Upload(features=None)


@pytest.mark.parametrize(
    ("whole", "words"),
    [
        (body(("target", "t.csv", b"x")), "features"),
        (body(("features", "f.csv", b"")), "features"),
        (
            body(("features", "f.csv", b"x"), ("../../etc/passwd", "p", b"x")),
            r"Unknown field `../../etc/passwd`; the fields are `features`",
        ),
        (body(("features", "f.csv", b"x"), ("features", "f.csv", b"x")), "`features` occurs twice"),
        (body(("features", "f.csv", b"x"), ("allow_new_codes", None, b"perhaps")), "true"),
        (body(("from_feedback", None, b"perhaps")), "`from_feedback` must be `true` or `false`"),
        (body(("from_feedback", None, b"false")), "features"),
        (body(("from_feedback", None, b"true"), ("features", "f.csv", b"x")), "no other field"),
        (body(("from_feedback", None, b"true"), ("images", "i.zip", b"x")), "no other field"),
        (body(("from_feedback", None, b"true"), ("allow_new_codes", None, b"true")), "no other field"),
    ],
)
async def test_wrong_fields_are_refused_in_words(tmp_path: Path, whole: bytes, words: str) -> None:
    with pytest.raises(BadInput, match=words):
        await receive(tmp_path, [whole])


@pytest.mark.parametrize(
    "whole", [b"", b"garbage", body(("features", "f.csv", b"x"), end=b""), b"--xyz\r\nnonsense\r\n"]
)
async def test_a_broken_body_is_refused(tmp_path: Path, whole: bytes) -> None:
    with pytest.raises(UploadBroken):
        await receive(tmp_path, [whole])


async def test_a_caller_who_disconnects_is_no_broken_upload(tmp_path: Path) -> None:
    with pytest.raises(ClientDisconnect):
        await receive(tmp_path, [body(("features", "f.csv", b"x"))[:40]], ends=False)


@pytest.mark.parametrize("content_type", ["application/json", "multipart/form-data", "text/csv"])
async def test_another_content_type_is_refused(tmp_path: Path, content_type: str) -> None:
    with pytest.raises(UnsupportedMedia):
        await receive(tmp_path, [b"x"], content_type)


async def test_a_body_that_grows_over_the_limit_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BodyTooLarge):
        await receive(tmp_path, [body(("features", "f.csv", b"x" * 60_000))])


async def test_an_upload_that_stalls_is_given_up(tmp_path: Path) -> None:
    with pytest.raises(UploadTooSlow):
        await receive(tmp_path, [b"--xyz"], pause_s=0.5)
