"""Stream the multipart body of an ingest to disk, never through memory or a small /tmp.

FastAPI's own form parsing would spool through the temporary folder and call the route after the last byte.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, ClassVar

from anyio import to_thread
from fastapi import Request
from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header

from rayonnage_shared.core.errors import BadInput, BodyTooLarge, RayonnageError, UnsupportedMedia
from rayonnage_shared.core.validation import unknown_field

FILES = ("features", "target", "images")
NEW_CODES = "allow_new_codes"
FROM_FEEDBACK = "from_feedback"
FLAGS = (NEW_CODES, FROM_FEEDBACK)
_FLAG_WORDS = {"": False, "false": False, "0": False, "no": False, "off": False}
_FLAG_WORDS |= {"true": True, "1": True, "yes": True, "on": True}
_WRITE_AT_BYTES = 1 << 20


class UploadTooSlow(RayonnageError):
    status: ClassVar[int] = 408
    code: ClassVar[str] = "upload_too_slow"
    title: ClassVar[str] = "The request body did not arrive in time"


class UploadBroken(RayonnageError):
    status: ClassVar[int] = 400
    code: ClassVar[str] = "upload_broken"
    title: ClassVar[str] = "The request body cannot be read"


@dataclass(frozen=True, slots=True)
class Upload:
    """The uploaded files of one ingest; without `features` the products come from feedback."""

    features: Path | None
    target: Path | None = None
    images: Path | None = None
    allow_new_codes: bool = False


async def receive_upload(
    request: Request, folder: Path, *, max_bytes: int, timeout_s: float, idle_timeout_s: float
) -> Upload:
    """Write the parts of the body into the existing `folder`.

    Raises BodyTooLarge, UploadTooSlow, UploadBroken, UnsupportedMedia, BadInput, or Starlette's ClientDisconnect.
    """
    declared = request.headers.get("content-length", "")
    if declared.isdecimal() and int(declared) > max_bytes:
        raise _too_large(max_bytes)
    parts = _Parts(folder, _boundary(request))
    stream = request.stream()
    received = 0
    try:
        async with asyncio.timeout(timeout_s):
            while True:
                async with asyncio.timeout(idle_timeout_s):
                    chunk = await anext(stream, None)
                if chunk is None:
                    break
                received += len(chunk)
                if received > max_bytes:
                    raise _too_large(max_bytes)
                parts.feed(chunk)
                if parts.pending_bytes >= _WRITE_AT_BYTES:
                    await to_thread.run_sync(parts.write)
        await to_thread.run_sync(parts.write)
        return parts.finish()
    except TimeoutError as error:
        raise UploadTooSlow("Send the files again over a faster connection, or in smaller parts.") from error
    except FormParserError as error:
        raise UploadBroken(f"The multipart body is malformed: {error}.") from error
    finally:
        parts.close()


class _Parts:
    """Handles the parser's events: each file part goes to its own file, flags stay in memory."""

    def __init__(self, folder: Path, boundary: bytes) -> None:
        self._folder = folder
        self._seen: set[str] = set()
        self._name = ""
        self._header = b""
        self._value = b""
        self._flags: dict[str, bytes] = {}
        self._file: BinaryIO | None = None
        self._pending: list[tuple[BinaryIO, bytes]] = []
        self._open: list[BinaryIO] = []
        self._ended = False
        self.pending_bytes = 0
        self._parser = MultipartParser(
            boundary,
            {
                "on_part_begin": self._begin,
                "on_header_field": self._header_field,
                "on_header_value": self._header_value,
                "on_header_end": self._header_end,
                "on_headers_finished": self._start,
                "on_part_data": self._data,
                "on_end": self._end,
            },
        )

    def feed(self, chunk: bytes) -> None:
        self._parser.write(chunk)

    def write(self) -> None:
        """Write the buffered data; runs in a thread while the parser is paused."""
        for file, data in self._pending:
            file.write(data)
        self._pending.clear()
        self.pending_bytes = 0

    def finish(self) -> Upload:
        if not self._ended:
            raise UploadBroken("The multipart body ends before its last boundary.")
        self.close()
        allow_new_codes, from_feedback = self._flag(NEW_CODES), self._flag(FROM_FEEDBACK)
        features, target, images = (self._path(name) for name in FILES)
        if from_feedback and (features or target or images or allow_new_codes):
            raise BadInput(f"With `{FROM_FEEDBACK}` the products come from feedback; send no other field.")
        if features is None and not from_feedback:
            raise BadInput(f"Send a CSV file of products in the field `features`, or `{FROM_FEEDBACK}` instead.")
        return Upload(features, target, images, allow_new_codes)

    def close(self) -> None:
        for file in self._open:
            file.close()

    def _flag(self, name: str) -> bool:
        flag = _FLAG_WORDS.get(self._flags.get(name, b"").decode("latin-1").strip().lower())
        if flag is None:
            raise BadInput(f"`{name}` must be `true` or `false`.")
        return flag

    def _path(self, name: str) -> Path | None:
        path = self._folder / name
        # Browsers send an empty part for a file input that is left empty.
        return path if path.is_file() and path.stat().st_size else None

    def _begin(self) -> None:
        self._name = ""
        self._header = self._value = b""

    def _header_field(self, data: bytes, start: int, end: int) -> None:
        self._header += data[start:end]

    def _header_value(self, data: bytes, start: int, end: int) -> None:
        self._value += data[start:end]

    def _header_end(self) -> None:
        if self._header.lower() == b"content-disposition":
            _, options = parse_options_header(self._value)
            self._name = options.get(b"name", b"").decode("latin-1")
        self._header = self._value = b""

    def _start(self) -> None:
        name = self._name
        if name not in (*FILES, *FLAGS):
            raise BadInput(unknown_field(name, (*FILES, *FLAGS)) if name else "A part of the form has no name.")
        if name in self._seen:
            raise BadInput(f"The field `{name}` occurs twice in the form.")
        self._seen.add(name)
        self._file = None
        if name in FILES:
            self._file = (self._folder / name).open("wb")
            self._open.append(self._file)

    def _data(self, data: bytes, start: int, end: int) -> None:
        if self._file is None:
            self._flags[self._name] = (self._flags.get(self._name, b"") + data[start:end])[:16]
            return
        self._pending.append((self._file, data[start:end]))
        self.pending_bytes += end - start

    def _end(self) -> None:
        self._ended = True


def _too_large(max_bytes: int) -> BodyTooLarge:
    return BodyTooLarge(f"An ingest may have at most {max_bytes:,} bytes; send the catalogue in parts.")


def _boundary(request: Request) -> bytes:
    kind, options = parse_options_header(request.headers.get("content-type"))
    boundary = options.get(b"boundary")
    if kind != b"multipart/form-data" or not boundary:
        raise UnsupportedMedia(
            "Send multipart/form-data with the file `features`, and `target` and `images` if needed."
        )
    return boundary
