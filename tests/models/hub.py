"""A hub on this machine: as much of Hugging Face's as fetching a model's files takes."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler
from pathlib import Path

from tests.http_server import serving

REVISION = "0123456789abcdef0123456789abcdef01234567"


@contextmanager
def hub(name: str, folder: Path) -> Iterator[str]:
    """Serve the files of `folder` as model `name`, and no other; yield the hub's address."""
    files = {path.name: path.read_bytes() for path in folder.iterdir()}
    described = {"id": name, "sha": REVISION, "siblings": [{"rfilename": one} for one in files]}

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_HEAD(self) -> None:
            self._answer()

        def do_GET(self) -> None:
            self._answer()

        def _answer(self) -> None:
            path = self.path.partition("?")[0]
            if path.startswith(f"/api/models/{name}"):
                tree = [{"type": "file", "path": one, "size": len(data), "oid": "0"} for one, data in files.items()]
                self._send(json.dumps(tree if "/tree/" in path else described).encode(), "application/json")
            elif path.startswith(f"/{name}/resolve/") and path.rpartition("/")[2] in files:
                self._send(files[path.rpartition("/")[2]], "application/octet-stream")
            else:
                self.send_response(404)
                self.send_header("X-Error-Code", "RepoNotFound")
                self.send_header("Content-Length", "0")
                self.end_headers()

        def _send(self, body: bytes, kind: str) -> None:
            self.send_response(200)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(body)))
            self.send_header("ETag", f'"{hashlib.sha256(body).hexdigest()}"')
            self.send_header("X-Repo-Commit", REVISION)
            self.end_headers()
            if self.command == "GET":
                self.wfile.write(body)

    with serving(Handler) as url:
        yield url
