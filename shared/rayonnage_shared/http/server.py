"""Run a service under uvicorn."""

from __future__ import annotations

import logging
import os
import sys
import time
from types import FrameType
from typing import Any

import structlog
import uvicorn
from fastapi import FastAPI
from ulid import ULID
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol

from rayonnage_shared.core.errors import RayonnageError
from rayonnage_shared.http.problems import problem_response

log = structlog.get_logger()

EXIT_NOT_STARTED = 3  # as in `uvicorn.run`
DRAIN_S = 8  # after SIGTERM
KEEP_ALIVE_S = 75
"""Longer than nginx and the gateway keep an idle connection: otherwise they may send a request into one that is being
closed, and a POST is not sent again."""
MAX_HEAD_BYTES = 64 * 1024
GONE_WITHIN_S = 9  # including the lifespan; container engines and the supervisor kill after ten seconds


def serve(app: FastAPI, *, host: str, port: int, trusted_proxies: str = "") -> None:
    """Serve `app` until SIGTERM or SIGINT; requests in progress get eight seconds to finish.

    `trusted_proxies` lists the addresses whose X-Forwarded-For is trusted; none by default. After the signal,
    `app.state.stopping` is true, so that endless streams can end.
    """
    config = server_config(app, host=host, port=port, trusted_proxies=trusted_proxies)
    app.state.stopping = False
    server = _Server(config, app)
    try:
        server.run()
    except KeyboardInterrupt:
        return
    if not server.started:
        sys.exit(EXIT_NOT_STARTED)
    # Reached only as process 1 of a container: elsewhere the signal that uvicorn raises again has ended the process.
    # Everything is closed; the interpreter's own cleanup has taken predict three seconds on busy cores.
    logging.shutdown()
    sys.stdout.flush()
    os._exit(0)


def server_config(app: FastAPI, *, host: str = "127.0.0.1", port: int = 0, trusted_proxies: str = "") -> uvicorn.Config:
    """Return how uvicorn serves `app`."""
    return uvicorn.Config(
        app,
        host=host,
        port=port,
        loop="uvloop",
        http=_HttpProtocol,
        ws="none",
        access_log=False,
        log_config=None,
        server_header=False,
        proxy_headers=bool(trusted_proxies),
        forwarded_allow_ips=trusted_proxies or None,
        timeout_keep_alive=KEEP_ALIVE_S,
        timeout_graceful_shutdown=DRAIN_S,
    )


def time_to_close(app: FastAPI, wanted_s: float) -> float:
    """Return how long a lifespan may take to close something, in seconds: `wanted_s`, or less after a long drain."""
    gone_by: float | None = getattr(app.state, "gone_by", None)
    return wanted_s if gone_by is None else max(0.0, min(wanted_s, gone_by - time.monotonic()))


class BadRequest(RayonnageError):
    status, code, title = 400, "bad_request", "The request cannot be read"


class HeadTooLarge(RayonnageError):
    status, code, title = 431, "head_too_large", "The request line and headers are too large"


class _HttpProtocol(HttpToolsProtocol):
    """Refuses requests with a large head, and those without exactly one Host (RFC 9112, section 3.2).

    The parser has no limit, and joins the parts of a header again and again. It responds with a problem document to
    what is not HTTP; uvicorn would send plain text without a request id.
    """

    def __init__(self, *arguments: Any, **named: Any) -> None:
        super().__init__(*arguments, **named)
        self._refusal: RayonnageError | None = None
        self._bytes_without_progress = 0
        self._progress = False

    def data_received(self, data: bytes) -> None:
        self._progress = False
        super().data_received(data)
        # The head, but also the trailers and extensions of a chunked body.
        self._bytes_without_progress = 0 if self._progress else self._bytes_without_progress + len(data)
        if self._bytes_without_progress > MAX_HEAD_BYTES and not self.transport.is_closing():
            self._refusal = _head_too_large()
            self.send_400_response("")

    def on_headers_complete(self) -> None:
        size, hosts = len(self.url), 0
        for name, value in self.headers:
            size += len(name) + len(value) + 4
            hosts += name == b"host"
        if size > MAX_HEAD_BYTES:
            self._refusal = _head_too_large()
        elif hosts > 1 or (not hosts and self.parser.get_http_version() == "1.1"):
            self._refusal = BadRequest("The request must have exactly one Host header.")
        if self._refusal is not None:
            raise self._refusal  # the parser stops, and uvicorn calls `send_400_response`
        self._progress = True
        super().on_headers_complete()

    def on_body(self, body: bytes) -> None:
        self._progress = True
        super().on_body(body)

    def on_message_complete(self) -> None:
        self._progress = True
        super().on_message_complete()

    def send_400_response(self, msg: str) -> None:
        request_id = str(ULID())
        error = self._refusal or BadRequest(
            "The server cannot parse the request as HTTP/1.1. Check its request line and headers."
        )
        log.info("http.request.unreadable", request_id=request_id, status=error.status, code=error.code)
        response = problem_response(request_id, error)
        headers = [*response.raw_headers, (b"x-request-id", request_id.encode()), (b"connection", b"close")]
        self.transport.write(
            b"%b%b\r\n%b"
            % (
                STATUS_LINE[error.status],
                b"".join(b"%b: %b\r\n" % header for header in headers),
                bytes(response.body),
            )
        )
        self.transport.close()


def _head_too_large() -> RayonnageError:
    return HeadTooLarge(f"The request line and headers may have at most {MAX_HEAD_BYTES:,} bytes together.")


class _Server(uvicorn.Server):
    def __init__(self, config: uvicorn.Config, app: FastAPI) -> None:
        super().__init__(config)
        self._app = app

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        if not self._app.state.stopping:
            self._app.state.gone_by = time.monotonic() + GONE_WITHIN_S
        self._app.state.stopping = True
        super().handle_exit(sig, frame)
