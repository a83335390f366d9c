"""The least that a request costs under uvicorn: reads the body and sends `BYTES` bytes. `python -m … PORT BYTES`."""

from __future__ import annotations

import sys

import uvicorn
from starlette.types import Receive, Scope, Send


def main() -> None:
    port, size = map(int, sys.argv[1:])
    body = b"x" * size
    headers = [(b"content-type", b"application/json"), (b"content-length", b"%d" % size)]

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        while scope["method"] == "POST" and (await receive()).get("more_body"):
            pass
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        await send({"type": "http.response.body", "body": body})

    uvicorn.run(app, port=port, loop="uvloop", http="httptools", access_log=False, log_level="warning", lifespan="off")


if __name__ == "__main__":
    main()
