"""The head that a service gets can be read in one way only."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from rayonnage_gateway.connection import response_headers
from rayonnage_gateway.forwarding import CHUNKED, BadRequestHead, body_length, request_head


def head(
    *headers: tuple[bytes, bytes],
    length: int = 5,
    method: str = "POST",
    target: bytes = b"/predict?top_k=3",
) -> bytes:
    path, _, query = target.partition(b"?")
    scope = {
        "method": method,
        "raw_path": path,
        "query_string": query,
        "headers": headers,
        "client": ("10.1.2.3", 4567),
        "scheme": "https",
        "state": {"request_id": "an-id-0001"},
    }
    return request_head(scope, b"127.0.0.1:8003", length)


def test_the_head_holds_what_the_caller_and_the_gateway_say() -> None:
    assert head((b"accept", b"*/*"), (b"host", b"rayonnage"), (b"content-length", b"5")) == (
        b"POST /predict?top_k=3 HTTP/1.1\r\nhost: 127.0.0.1:8003\r\naccept: */*\r\ncontent-length: 5\r\n"
        b"x-request-id: an-id-0001\r\nx-forwarded-for: 10.1.2.3\r\nx-forwarded-proto: https\r\n\r\n"
    )


@pytest.mark.parametrize(
    "name",
    [b"x-forwarded-for", b"x-forwarded-proto", b"x-forwarded-host", b"forwarded", b"x-real-ip", b"x-request-id"],
)
def test_nobody_outside_can_say_what_is_the_gateways_to_say(name: bytes) -> None:
    assert b"evil" not in head((name, b"evil"))


@pytest.mark.parametrize("name", [b"te", b"trailer", b"upgrade", b"keep-alive", b"proxy-authorization", b"expect"])
def test_fields_of_one_connection_stay_behind(name: bytes) -> None:
    assert b"evil" not in head((name, b"evil"))


def test_fields_that_connection_names_stay_behind() -> None:
    assert b"evil" not in head((b"connection", b"close, X-Mine"), (b"x-mine", b"evil"))


def test_a_body_in_chunks_has_no_length() -> None:
    sent = head((b"transfer-encoding", b"chunked"), length=CHUNKED)
    assert sent.count(b"transfer-encoding: chunked") == 1
    assert b"content-length" not in sent


def test_a_get_without_a_body_has_no_length_but_a_post_has() -> None:
    assert b"content-length" not in head(length=0, method="GET")
    assert b"content-length: 0\r\n" in head(length=0)


@pytest.mark.parametrize(
    "header",
    [
        (b"x", b"a\r\nx-evil: 1"),
        (b"x", b"a\nb"),
        (b"x", b"a\x00b"),
        (b"x", b"a\rb"),
        (b"x y", b"a"),
        (b"x:y\r\nz", b"a"),
        (b"", b"a"),
    ],
)
def test_bytes_that_have_no_place_in_a_head_are_refused(header: tuple[bytes, bytes]) -> None:
    with pytest.raises(BadRequestHead):
        head(header)


@pytest.mark.parametrize("target", [b"/a b", b"/a\r\nb", b"a", b"", b"http://x/", b"/\xe9"])
def test_a_target_that_is_no_path_is_refused(target: bytes) -> None:
    with pytest.raises(BadRequestHead):
        head(target=target)


@given(st.lists(st.tuples(st.binary(max_size=12), st.binary(max_size=30)), max_size=6), st.binary(max_size=20))
def test_whatever_comes_the_head_is_sound_or_refused(headers: list[tuple[bytes, bytes]], rest: bytes) -> None:
    try:
        sent = head(*((name.lower(), value) for name, value in headers), target=b"/" + rest)
    except BadRequestHead:
        return
    lines = sent.split(b"\r\n")
    assert lines[-2:] == [b"", b""]
    assert b"" not in lines[:-2]
    assert not any(b"\r" in line or b"\n" in line or b"\x00" in line for line in lines)
    names = [line.partition(b":")[0] for line in lines[1:-2]]
    for name in (b"host", b"content-length", b"x-request-id", b"x-forwarded-for"):
        assert names.count(name) == 1
    assert b"transfer-encoding" not in names


@pytest.mark.parametrize(
    ("headers", "length"),
    [
        ([], 0),
        ([(b"content-length", b"12")], 12),
        ([(b"transfer-encoding", b"chunked")], CHUNKED),
        ([(b"transfer-encoding", b"Chunked ")], CHUNKED),
    ],
)
def test_the_length_of_a_body_is_what_the_head_announces(headers: list[tuple[bytes, bytes]], length: int) -> None:
    assert body_length(headers) == length


@pytest.mark.parametrize(
    "headers",
    [
        [(b"content-length", b"5"), (b"transfer-encoding", b"chunked")],
        [(b"content-length", b"5"), (b"content-length", b"5")],
        [(b"transfer-encoding", b"chunked"), (b"transfer-encoding", b"chunked")],
        [(b"transfer-encoding", b"gzip, chunked")],
        [(b"transfer-encoding", b"identity")],
        [(b"content-length", b"+5")],
        [(b"content-length", b"5, 5")],
        [(b"content-length", b"-1")],
        [(b"content-length", b"0x5")],
        [(b"content-length", b"5" * 30)],
        [(b"content-length", b"")],
    ],
)
def test_a_body_announced_in_two_ways_or_none_is_refused(headers: list[tuple[bytes, bytes]]) -> None:
    with pytest.raises(BadRequestHead):
        body_length(headers)


def test_an_answer_loses_what_concerns_one_connection() -> None:
    assert response_headers(
        [
            (b"content-type", b"a/b"),
            (b"connection", b"close, x-hop"),
            (b"x-hop", b"1"),
            (b"date", b"now"),
            (b"server", b"x"),
            (b"x-request-id", b"y"),
            (b"set-cookie", b"a"),
            (b"set-cookie", b"b"),
        ]
    ) == [(b"content-type", b"a/b"), (b"set-cookie", b"a"), (b"set-cookie", b"b")]


def test_an_answer_in_chunks_has_no_length() -> None:
    assert response_headers([(b"transfer-encoding", b"chunked"), (b"content-length", b"5")]) == []
