"""Serve metrics on a port of their own, for processes whose main port is public or missing."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Iterator
from threading import Thread
from wsgiref.simple_server import WSGIRequestHandler, make_server

from prometheus_client import REGISTRY, CollectorRegistry, make_wsgi_app
from prometheus_client.exposition import ThreadingWSGIServer

_STOPS_WITHIN_S = 0.05  # prometheus_client's own server takes half a second, which each stop would wait for


class _Server(ThreadingWSGIServer):
    def __init__(self, address: tuple[str, int], handler: type[WSGIRequestHandler]) -> None:
        self.address_family = socket.getaddrinfo(*address, type=socket.SOCK_STREAM)[0][0]
        super().__init__(address, handler)


class _Handler(WSGIRequestHandler):
    def log_message(self, format: str, *args: object) -> None:
        """Log nothing: scrapes come every few seconds."""


@contextlib.contextmanager
def metrics_server(host: str, port: int, registry: CollectorRegistry = REGISTRY) -> Iterator[int]:
    """Serve `registry` over HTTP until the block ends, and yield the port; port 0 is a free one."""
    server = make_server(host, port, make_wsgi_app(registry), _Server, _Handler)
    thread = Thread(target=server.serve_forever, args=(_STOPS_WITHIN_S,), name="metrics", daemon=True)
    thread.start()
    try:
        yield server.server_port
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
