"""ASGI applications that forward to `BENCH_SERVICE` and do nothing else, each with another HTTP client.

What they cost differs by the client alone: each reads the request's body, sends it on with the same three headers, and
passes the response on as it arrives. `nothing` answers by itself: the cost of uvicorn.
"""

from __future__ import annotations

import os
from collections.abc import Awaitable, Callable
from typing import Any

from tests.bench.proxies import stub

Receive = Callable[[], Awaitable[dict[str, Any]]]
Send = Callable[[dict[str, Any]], Awaitable[None]]

SERVICE = os.environ.get("BENCH_SERVICE", "http://127.0.0.1:1")
_FORWARDED = (b"content-type", b"authorization", b"content-length")

nothing = stub.app


async def _body(receive: Receive) -> bytes:
    parts: list[bytes] = []
    more = True
    while more:
        message = await receive()
        parts.append(message.get("body", b""))
        more = message.get("more_body", False)
    return parts[0] if len(parts) == 1 else b"".join(parts)


def _headers(scope: dict[str, Any]) -> list[tuple[bytes, bytes]]:
    return [header for header in scope["headers"] if header[0] in _FORWARDED]


class Own:
    """The gateway's own client: `Upstream` and `Connection`."""

    def __init__(self) -> None:
        from rayonnage_gateway.upstream import PoolLimits, Upstream

        limits = PoolLimits(connections=128, waiting=256, wait_s=0.5, connect_timeout_s=2, keep_alive_s=3)
        self._upstream = Upstream("stub", SERVICE, limits)
        self._is_open = False

    async def __call__(self, scope: dict[str, Any], receive: Receive, send: Send) -> None:
        if not self._is_open:
            self._upstream.open()
            self._is_open = True
        body = await _body(receive)
        parts = [b"%b %b HTTP/1.1\r\nhost: stub\r\n" % (scope["method"].encode(), scope["raw_path"])]
        parts += [b"%b: %b\r\n" % header for header in _headers(scope)]
        async with self._upstream.connection() as connection:
            connection.start("POST", b"".join(parts) + b"\r\n", body, timeout_s=15)
            await connection.wait_for_head()
            await send({"type": "http.response.start", "status": connection.status, "headers": connection.headers})
            more = True
            while more:
                data, more = await connection.read(45)
                await send({"type": "http.response.body", "body": data, "more_body": more})


class Aiohttp:
    """aiohttp with a pool of as many connections."""

    def __init__(self) -> None:
        self._session: Any = None

    async def __call__(self, scope: dict[str, Any], receive: Receive, send: Send) -> None:
        import aiohttp

        if self._session is None:
            self._session = aiohttp.ClientSession(
                connector=aiohttp.TCPConnector(limit=128),
                auto_decompress=False,
                timeout=aiohttp.ClientTimeout(total=None, sock_connect=2, sock_read=15),
            )
        body = await _body(receive)
        headers = [(name.decode(), value.decode()) for name, value in _headers(scope)]
        url = SERVICE + scope["path"]
        async with self._session.request(scope["method"], url, data=body, headers=headers) as response:
            await send(
                {
                    "type": "http.response.start",
                    "status": response.status,
                    "headers": [(name.lower(), value) for name, value in response.raw_headers],
                }
            )
            async for data in response.content.iter_any():
                await send({"type": "http.response.body", "body": data, "more_body": True})
            await send({"type": "http.response.body", "body": b""})


class Pyreqwest:
    """pyreqwest: reqwest and hyper in Rust, on threads of their own."""

    def __init__(self) -> None:
        self._client: Any = None

    async def __call__(self, scope: dict[str, Any], receive: Receive, send: Send) -> None:
        from pyreqwest.client import ClientBuilder

        if self._client is None:
            self._client = ClientBuilder().max_connections(128).http1_only().build()
        body = await _body(receive)
        headers = [(name.decode(), value.decode()) for name, value in _headers(scope) if name != b"content-length"]
        request = self._client.request(scope["method"], SERVICE + scope["path"]).headers(headers).body_bytes(body)
        async with request.build_streamed() as response:
            await send(
                {
                    "type": "http.response.start",
                    "status": response.status,
                    "headers": [(name.lower().encode(), value.encode()) for name, value in response.headers.items()],
                }
            )
            while (data := await response.body_reader.read_chunk()) is not None:
                await send({"type": "http.response.body", "body": bytes(data), "more_body": True})
            await send({"type": "http.response.body", "body": b""})


own, aiohttp, pyreqwest = Own(), Aiohttp(), Pyreqwest()
