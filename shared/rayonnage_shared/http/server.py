"""Run a service under uvicorn."""

from __future__ import annotations

import logging
import os
import sys
import time
from types import FrameType

import structlog
import uvicorn
from fastapi import FastAPI
from ulid import ULID
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from rayonnage_shared.core.errors import RayonnageError
from rayonnage_shared.http.problems import problem_response

log = structlog.get_logger()

EXIT_NOT_STARTED = 3  # as in `uvicorn.run`
DRAIN_S = 8  # after SIGTERM
GONE_WITHIN_S = 9  # including the lifespan; container engines and the supervisor kill after ten seconds


def serve(app: FastAPI, *, host: str, port: int, trusted_proxies: str = "") -> None:
    """Serve `app` until SIGTERM or SIGINT; requests in progress get eight seconds to finish.

    `trusted_proxies` lists the addresses whose X-Forwarded-For is trusted; none by default. After the signal,
    `app.state.stopping` is true, so that endless streams can end.
    """
    config = uvicorn.Config(
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
        timeout_graceful_shutdown=DRAIN_S,
    )
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


def time_to_close(app: FastAPI, wanted_s: float) -> float:
    """Return how long a lifespan may take to close something, in seconds: `wanted_s`, or less after a long drain."""
    gone_by: float | None = getattr(app.state, "gone_by", None)
    return wanted_s if gone_by is None else max(0.0, min(wanted_s, gone_by - time.monotonic()))


class BadRequest(RayonnageError):
    status, code, title = 400, "bad_request", "The request cannot be read"


class _HttpProtocol(HttpToolsProtocol):
    """Responds with a problem document to what is not HTTP; uvicorn would send plain text without a request id."""

    def send_400_response(self, msg: str) -> None:
        request_id = str(ULID())
        log.info("http.request.unreadable", request_id=request_id, status=400)
        error = BadRequest("The server cannot parse the request as HTTP/1.1. Check its request line and headers.")
        response = problem_response(request_id, error)
        headers = [*response.raw_headers, (b"x-request-id", request_id.encode()), (b"connection", b"close")]
        self.transport.write(
            b"HTTP/1.1 400 Bad Request\r\n%b\r\n%b"
            % (b"".join(b"%b: %b\r\n" % header for header in headers), bytes(response.body))
        )
        self.transport.close()


class _Server(uvicorn.Server):
    def __init__(self, config: uvicorn.Config, app: FastAPI) -> None:
        super().__init__(config)
        self._app = app

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        if not self._app.state.stopping:
            self._app.state.gone_by = time.monotonic() + GONE_WITHIN_S
        self._app.state.stopping = True
        super().handle_exit(sig, frame)
