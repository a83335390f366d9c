"""Real servers on free loopback ports: the gateway in a thread, and services that misbehave on request."""

from __future__ import annotations

import contextlib
import hashlib
import json
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import httpx2
import uvicorn

from rayonnage_gateway.app import create_app
from rayonnage_gateway.settings import GatewaySettings
from rayonnage_shared.auth.schemas import Role
from rayonnage_shared.http.server import server_config
from tests.tokens import SECRET, bearer, token
from tests.waiting import PATIENCE_S, eventually


class Gone(Exception):
    """The other side has closed."""


class Conversation:
    """One connection as a service sees it."""

    def __init__(self, sock: socket.socket) -> None:
        self.sock = sock
        self.unread = bytearray()

    def read_head(self) -> bytes:
        while b"\r\n\r\n" not in self.unread:
            self.unread += self.more()
        return self._take(self.unread.index(b"\r\n\r\n"), drop=4)

    def read_body(self, head: bytes) -> bytes:
        fields = fields_of(head)
        if "chunked" in fields.get("transfer-encoding", ""):
            return self._read_chunks()
        wanted = int(fields.get("content-length", 0))
        while len(self.unread) < wanted:
            self.unread += self.more()
        return self._take(wanted)

    def send(self, data: bytes) -> None:
        try:
            self.sock.sendall(data)
        except OSError as error:
            raise Gone from error

    def answer(self, body: bytes = b"{}", status: int = 200, *fields: str) -> None:
        lines = [f"HTTP/1.1 {status} Said", f"Content-Length: {len(body)}", "Content-Type: application/json", *fields]
        self.send("\r\n".join(lines).encode() + b"\r\n\r\n" + body)

    def reset(self) -> None:
        """Close so that the other side gets a reset instead of an end."""
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.sock.close()

    def wait_for_end(self) -> float:
        """Return after how many seconds the other side closed."""
        started = time.monotonic()
        with contextlib.suppress(Gone):
            while True:
                self.more()
        return time.monotonic() - started

    def more(self) -> bytes:
        """Return what comes next. Raises Gone at the end."""
        try:
            data = self.sock.recv(1 << 20)
        except OSError as error:
            raise Gone from error
        if not data:
            raise Gone
        return data

    def _take(self, count: int, drop: int = 0) -> bytes:
        taken = bytes(self.unread[:count])
        del self.unread[: count + drop]
        return taken

    def _read_chunks(self) -> bytes:
        parts: list[bytes] = []
        while True:
            while b"\r\n" not in self.unread:
                self.unread += self.more()
            size = int(self._take(self.unread.index(b"\r\n"), drop=2), 16)
            while len(self.unread) < size + 2:
                self.unread += self.more()
            parts.append(self._take(size))
            assert self._take(2) == b"\r\n"
            if size == 0:
                return b"".join(parts)


Script = Callable[[Conversation], None]


def echo(conversation: Conversation) -> None:
    """Answer each request with what came."""
    while True:
        head = conversation.read_head()
        body = conversation.read_body(head)
        conversation.answer(
            json.dumps(
                {
                    "line": head.split(b"\r\n")[0].decode(),
                    "fields": fields_of(head),
                    "bytes": len(body),
                    "sha256": hashlib.sha256(body).hexdigest(),
                }
            ).encode()
        )


class Service:
    """Listens on a port, a free one unless told; `script` says what happens on each new connection."""

    def __init__(self, *, answers_openapi: bool = False, host: str = "127.0.0.1", port: int = 0) -> None:
        self._answers_openapi = answers_openapi
        self._listener = socket.create_server((host, port))
        self.port: int = self._listener.getsockname()[1]
        self.url = f"http://{host}:{self.port}"
        self.script: Script = echo
        self.connections = 0
        self.ended = 0
        """Connections whose script has ended, and which are closed."""
        self._open: list[socket.socket] = []
        self._threads: list[threading.Thread] = []
        self._acceptor = threading.Thread(target=self._accept)
        self._acceptor.start()

    def play(self, *scripts: Script) -> None:
        """Use these for the next connections, one each, the last for all that follow."""
        left = list(scripts)
        lock = threading.Lock()

        def next_script(conversation: Conversation) -> None:
            with lock:
                script = left.pop(0) if len(left) > 1 else left[0]
            script(conversation)

        self.drop_connections()
        self.connections = self.ended = 0
        self.script = next_script

    def drop_connections(self) -> None:
        """End every connection. Its own thread closes the socket: closed here, it might be read from for ever."""
        while self._open:  # one by one, since the acceptor adds to them
            with contextlib.suppress(OSError):
                self._open.pop().shutdown(socket.SHUT_RDWR)

    def close(self) -> None:
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._acceptor.join()
        self.drop_connections()
        for thread in self._threads:
            thread.join()

    def _accept(self) -> None:
        while True:
            try:
                sock, _peer = self._listener.accept()
            except OSError:
                return
            sock.settimeout(PATIENCE_S)
            self._open.append(sock)
            thread = threading.Thread(target=self._run, args=(sock,))
            self._threads.append(thread)
            thread.start()

    def _run(self, sock: socket.socket) -> None:
        conversation = Conversation(sock)
        try:
            asked = sock.recv(18, socket.MSG_PEEK)
            if asked.startswith(b"GET /openapi.json ") and not self._answers_openapi:
                conversation.answer(b"", 404, "Connection: close")  # the gateway's own question, not the test's
                return
            self.connections += 1
            self.script(conversation)
        except (Gone, OSError):
            pass
        finally:
            sock.close()
            self.ended += 1


class Gateway:
    """The gateway under real uvicorn, in a thread of its own."""

    def __init__(self, *, proxied_by: str = "", **settings: Any) -> None:
        defaults: dict[str, Any] = {"algorithm": "HS256", "secret_key": SECRET, "gateway_metrics_port": 0}
        self.settings = GatewaySettings(_env_file=None, **(defaults | settings))
        self.app = create_app(self.settings)
        self._callers: list[socket.socket] = []
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._socket.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"
        config = server_config(self.app, trusted_proxies=proxied_by)
        config.timeout_graceful_shutdown = 2
        self._server = uvicorn.Server(config)
        self._thread = threading.Thread(target=self._server.run, kwargs={"sockets": [self._socket]})
        self._thread.start()
        assert eventually(lambda: self._server.started or not self._thread.is_alive(), every_s=0.01)
        assert self._server.started, "the gateway did not start"

    def close(self) -> None:
        self.hang_up()
        self._server.should_exit = True
        self._thread.join(PATIENCE_S)
        self._socket.close()

    def connect(self) -> Conversation:
        """Return a caller's connection; `hang_up` closes it at last."""
        sock = socket.create_connection(("127.0.0.1", self.port), timeout=PATIENCE_S)
        self._callers.append(sock)
        return Conversation(sock)

    def hang_up(self) -> None:
        for sock in self._callers:
            sock.close()
        self._callers.clear()


@contextlib.contextmanager
def running(**settings: Any) -> Iterator[Gateway]:
    """A gateway with these settings; services that are not given do not exist."""
    absent = "http://127.0.0.1:1"
    urls = {name: settings.pop(name, absent) for name in ("auth_url", "ingest_url", "train_url", "predict_url")}
    gateway = Gateway(**urls, **settings)
    try:
        yield gateway
    finally:
        gateway.close()


@contextlib.contextmanager
def reached(*, role: Role = "user", **settings: Any) -> Iterator[httpx2.Client]:
    """A caller before a gateway with these settings."""
    with running(**settings) as gateway, caller_before(gateway, role) as client:
        yield client


def caller_before(gateway: Gateway, role: Role) -> httpx2.Client:
    """A caller who waits longer than any gateway does."""
    return httpx2.Client(base_url=gateway.url, headers=bearer(role=role), timeout=PATIENCE_S)


def fields_of(head: bytes) -> dict[str, str]:
    found: dict[str, str] = {}
    for line in head.split(b"\r\n")[1:]:
        name, _, value = line.decode("latin-1").partition(":")
        name = name.lower()
        assert name not in found, f"{name} stands twice"
        found[name] = value.strip()
    return found


def request(method: str, target: str, *fields: str, body: bytes | None = None) -> bytes:
    """The bytes of a request, with a user's token."""
    lines = [f"{method} {target} HTTP/1.1", "Host: rayonnage", f"Authorization: Bearer {token(role='admin')}", *fields]
    if body is not None:
        lines.append(f"Content-Length: {len(body)}")
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + (body or b"")
