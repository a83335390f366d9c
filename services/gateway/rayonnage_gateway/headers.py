"""Which headers pass the gateway, and the exact bytes of the head that a service gets."""

from __future__ import annotations

import re
from collections.abc import Iterable

from rayonnage_shared.core.errors import RayonnageError

Header = tuple[bytes, bytes]

# RFC 9110 section 7.6.1, and what older software sends; these concern one connection and never pass.
_HOP_BY_HOP = frozenset(
    {
        b"connection",
        b"keep-alive",
        b"proxy-authenticate",
        b"proxy-authorization",
        b"proxy-connection",
        b"te",
        b"trailer",
        b"transfer-encoding",
        b"upgrade",
    }
)
# The gateway says these itself, so nobody outside can.
_OWN_IN_REQUESTS = frozenset(
    {
        b"host",
        b"content-length",
        b"expect",
        b"baggage",
        b"forwarded",
        b"traceparent",
        b"tracestate",
        b"x-forwarded-for",
        b"x-forwarded-host",
        b"x-forwarded-port",
        b"x-forwarded-proto",
        b"x-real-ip",
        b"x-request-id",
    }
)
_OWN_IN_ANSWERS = frozenset({b"date", b"server", b"x-request-id"})
_NOT_IN_REQUESTS = _HOP_BY_HOP | _OWN_IN_REQUESTS
_NOT_IN_ANSWERS = _HOP_BY_HOP | _OWN_IN_ANSWERS
_USUAL_CONNECTION = frozenset({b"keep-alive", b"close", b""})

# A request line, then one field a line: nothing that a service could read as another line or another request.
_SOUND_HEAD = re.compile(
    rb"[A-Z]+ /[!-~]* HTTP/1\.1\r\n(?:[!#$%&'*+\-.^_`|~0-9A-Za-z]+: [\t\x20-\x7e\x80-\xff]*\r\n)+\r\n"
)
_LENGTH = re.compile(rb"[0-9]{1,18}")

CHUNKED = -1
"""Stands for the length of a body that comes in chunks."""


class BadRequest(RayonnageError):
    status, code, title = 400, "bad_request", "The request cannot be read"


class BadRequestHead(BadRequest):
    code = "bad_request_head"


def body_length(headers: Iterable[Header]) -> int:
    """Return how many bytes of body the head announces, or CHUNKED.

    Raises BadRequestHead when it announces two things at once: two readers could take them differently.
    """
    length: bytes | None = None
    encoding: bytes | None = None
    for name, value in headers:
        if name == b"content-length":
            if length is not None:
                raise BadRequestHead("Content-Length stands twice.")
            length = value
        elif name == b"transfer-encoding":
            if encoding is not None:
                raise BadRequestHead("Transfer-Encoding stands twice.")
            encoding = value
    if encoding is not None:
        if length is not None:
            raise BadRequestHead("Content-Length and Transfer-Encoding exclude each other.")
        if encoding.strip().lower() != b"chunked":
            raise BadRequestHead("Transfer-Encoding can only be `chunked` here.")
        return CHUNKED
    if length is None:
        return 0
    if not _LENGTH.fullmatch(length):
        raise BadRequestHead("Content-Length is not a number of bytes.")
    return int(length)


def request_head(
    *,
    method: str,
    target: bytes,
    authority: bytes,
    headers: Iterable[Header],
    length: int,
    request_id: str,
    client: str,
    scheme: str,
    traceparent: bytes | None = None,
) -> bytes:
    """Return the head that a service gets: what the caller sent, without what is not the caller's to say.

    Raises BadRequestHead when a byte stands in it that has no place there.
    """
    parts = [b"%b %b HTTP/1.1\r\nhost: %b\r\n" % (method.encode("latin-1"), target, authority)]
    dropped = _NOT_IN_REQUESTS
    connection = _connection_options(headers)
    if connection:
        dropped = dropped | connection
    for name, value in headers:
        if name not in dropped:
            parts.append(b"%b: %b\r\n" % (name, value))
    if length == CHUNKED:
        parts.append(b"transfer-encoding: chunked\r\n")
    elif length or method in ("POST", "PUT", "PATCH"):
        parts.append(b"content-length: %d\r\n" % length)
    if traceparent is not None:
        parts.append(b"traceparent: %b\r\n" % traceparent)
    parts.append(
        b"x-request-id: %b\r\nx-forwarded-for: %b\r\nx-forwarded-proto: %b\r\n\r\n"
        % (request_id.encode("latin-1"), client.encode("latin-1", "replace"), scheme.encode("latin-1"))
    )
    head = b"".join(parts)
    lines = len(parts) + 4  # the first part has 2, the last 4 with the empty one, every other is one
    if head.count(b"\n") != lines or not _SOUND_HEAD.fullmatch(head):
        raise BadRequestHead("The request line or a header holds bytes that have no place there.")
    return head


def answer_headers(headers: list[Header]) -> list[Header]:
    """Return what the caller gets of a service's headers."""
    dropped = _NOT_IN_ANSWERS
    connection = _connection_options(headers)
    if connection:
        dropped = dropped | connection
    chunked = any(name == b"transfer-encoding" for name, _value in headers)
    return [
        (name, value) for name, value in headers if name not in dropped and not (chunked and name == b"content-length")
    ]


def _connection_options(headers: Iterable[Header]) -> frozenset[bytes]:
    """Return the names that a Connection header declares to concern this connection alone."""
    for name, value in headers:
        if name == b"connection" and value.lower() not in _USUAL_CONNECTION:
            break
    else:
        return frozenset()
    return frozenset(
        option.strip().lower() for name, value in headers if name == b"connection" for option in value.split(b",")
    )
