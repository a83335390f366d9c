"""Runs a service's application under uvicorn, the same way for each."""

from __future__ import annotations

import sys
from types import FrameType

import uvicorn
from fastapi import FastAPI

DRAIN_S = 8  # after SIGTERM; container engines and our supervisor kill what is left after ten seconds
EXIT_NOT_STARTED = 3  # as `uvicorn.run` has it


def serve(app: FastAPI, *, host: str, port: int, trusted_proxies: str = "") -> None:
    """Serve `app` until SIGTERM or SIGINT; requests under way get eight seconds to finish.

    `trusted_proxies` lists the addresses whose X-Forwarded-For is believed; by default nobody's is. From the signal on
    `app.state.stopping` is true, so that streams without an end of their own can end.
    """
    config = uvicorn.Config(
        app,
        host=host,
        port=port,
        loop="uvloop",
        http="httptools",
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


class _Server(uvicorn.Server):
    def __init__(self, config: uvicorn.Config, app: FastAPI) -> None:
        super().__init__(config)
        self._app = app

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        self._app.state.stopping = True
        super().handle_exit(sig, frame)
