"""An HTTP store with basic authentication on a loopback port: what a DagsHub remote is to DVC."""

from __future__ import annotations

import base64
import contextlib
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler
from pathlib import Path

from tests.http_server import serving

USER, PASSWORD = "jane", "a-token"
_EXPECTED = "Basic " + base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode()


@contextlib.contextmanager
def http_store(folder: Path) -> Iterator[str]:
    """Yield the address of a store that keeps in `folder` what is posted to it."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def handle(self) -> None:
            with contextlib.suppress(ConnectionError):  # a client that hangs up
                super().handle()

        def do_HEAD(self) -> None:
            self._send(with_body=False)

        def do_GET(self) -> None:
            self._send(with_body=True)

        def do_POST(self) -> None:
            content = self._body()
            if self._let_in():
                path = folder / self.path.lstrip("/")
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(content)
                self._answer(200)

        def _send(self, *, with_body: bool) -> None:
            if not self._let_in():
                return
            path = folder / self.path.lstrip("/")
            if not path.is_file():
                self._answer(404)
                return
            content = path.read_bytes()
            self.send_response(200)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            if with_body:
                self.wfile.write(content)

        def _let_in(self) -> bool:
            if self.headers.get("Authorization") == _EXPECTED:
                return True
            self._answer(401)
            return False

        def _body(self) -> bytes:
            if self.headers.get("Transfer-Encoding") != "chunked":
                return self.rfile.read(int(self.headers.get("Content-Length", 0)))
            chunks = []
            while size := int(self.rfile.readline(), 16):
                chunks.append(self.rfile.read(size))
                self.rfile.readline()
            self.rfile.readline()
            return b"".join(chunks)

        def _answer(self, status: int) -> None:
            self.send_response(status)
            self.send_header("Content-Length", "0")
            self.end_headers()

    with serving(Handler) as url:
        yield f"{url}/jane/shop.dvc"
