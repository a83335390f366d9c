"""An ASGI function and nothing else: what HTTP costs at least with uvicorn."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable
from typing import Any

from tests.bench.peers.function import load_function

answer = load_function()


async def app(
    scope: dict[str, Any],
    receive: Callable[[], Awaitable[dict[str, Any]]],
    send: Callable[[dict[str, Any]], Awaitable[None]],
) -> None:
    if scope["type"] != "http":  # the life span; uvicorn runs with --lifespan off
        raise NotImplementedError
    body, more = b"", True
    while more:
        message = await receive()
        body += message.get("body", b"")
        more = message.get("more_body", False)
    product = json.loads(body) if body else {}
    content = json.dumps(answer(product.get("designation"), product.get("description"))).encode()
    headers = [(b"content-type", b"application/json"), (b"content-length", str(len(content)).encode())]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": content})
