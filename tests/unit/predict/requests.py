"""Predict requests as the routes receive them."""

from __future__ import annotations

from starlette.requests import Request


def request(content_type: str, body: bytes) -> Request:
    async def receive() -> dict[str, object]:
        return {"type": "http.request", "body": body, "more_body": False}

    headers = [(b"content-type", content_type.encode())]
    return Request({"type": "http", "method": "POST", "path": "/predict", "headers": headers}, receive)
