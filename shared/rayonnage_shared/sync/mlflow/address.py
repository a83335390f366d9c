"""Where MLflow is, without importing it."""

from __future__ import annotations

import socket
from pathlib import Path
from urllib.parse import urlsplit

from rayonnage_shared.sync.base import SyncTargetUnavailable

CONNECT_TIMEOUT_S = 3
_PORTS = {"http": 80, "https": 443}


def sqlite_path(uri: str) -> Path | None:
    """Return the file of an SQLite store, None for any other."""
    return Path(uri.removeprefix("sqlite:///")) if uri.startswith("sqlite:///") else None


def redacted(uri: str) -> str:
    """Return the address without a user or password that may stand in it."""
    parts = urlsplit(uri)
    return uri if "@" not in parts.netloc else parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl()


def check_reachable(uri: str) -> None:
    """Raise SyncTargetUnavailable where nobody answers at `uri`; importing MLflow to find out would cost seconds."""
    parts = urlsplit(uri)
    address = (parts.hostname or "", parts.port or _PORTS.get(parts.scheme, 80))
    try:
        socket.create_connection(address, CONNECT_TIMEOUT_S).close()
    except OSError as error:
        raise SyncTargetUnavailable(f"MLflow at {address[0]}:{address[1]} does not answer ({error}).") from error
