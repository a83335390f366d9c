"""Runs a service's application under uvicorn, the same way for each."""

from __future__ import annotations

import uvicorn
from fastapi import FastAPI

DRAIN_S = 10


def serve(app: FastAPI, *, host: str, port: int, trusted_proxies: str = "") -> None:
    """Serve `app` until SIGTERM or SIGINT; requests under way get ten seconds to finish.

    `trusted_proxies` lists the addresses whose X-Forwarded-For is believed; by default nobody's is.
    """
    uvicorn.run(
        app,
        host=host,
        port=port,
        loop="uvloop",
        http="httptools",
        access_log=False,
        log_config=None,
        server_header=False,
        proxy_headers=bool(trusted_proxies),
        forwarded_allow_ips=trusted_proxies or None,
        timeout_graceful_shutdown=DRAIN_S,
    )
