"""A service that costs next to nothing: reads the request and answers a prediction's JSON. Runs under uvicorn."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable
from typing import Any

_PREDICTION = json.dumps(
    {
        "prediction_id": "01JDSTUB0000000000000000000",
        "predicted": "2583",
        "category_id": 2583,
        "label": "Piscine",
        "confidence": 0.9,
        "predictions": [{"category_id": code, "label": "Piscine", "probability": 0.3} for code in (2583, 10, 40)],
        "modalities": {"text": {"used": True, "category_id": 2583, "probability": 0.9, "reason": None}},
        "model": {"version": "20261128T000000", "family": "tfidf-svm"},
        "decision": "accept",
        "duration_ms": 0.7,
    }
).encode()
_ANSWERS = {  # what the gateway polls from services
    "/internal/revocations": b'{"revocations":[]}',
    "/openapi.json": b'{"openapi":"3.1.0","info":{"title":"stub","version":"1"},"paths":{}}',
}


async def app(
    scope: dict[str, Any],
    receive: Callable[[], Awaitable[dict[str, Any]]],
    send: Callable[[dict[str, Any]], Awaitable[None]],
) -> None:
    """Answer whatever comes."""
    while (await receive()).get("more_body", False):
        pass
    content = _ANSWERS.get(scope["path"], _PREDICTION)
    headers = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(content))]
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": content})
