"""The address of MLflow, without importing it."""

from __future__ import annotations

import socket
from pathlib import Path
from urllib.parse import urlsplit

from rayonnage_shared.sync.base import SyncTargetUnavailable

CONNECT_TIMEOUT_S = 3
_PORTS = {"http": 80, "https": 443}


def sqlite_path(uri: str) -> Path | None:
    """Return the file of an SQLite store, or None for another kind of store."""
    return Path(uri.removeprefix("sqlite:///")) if uri.startswith("sqlite:///") else None


def redacted(uri: str) -> str:
    """Return the address without its user and password."""
    parts = urlsplit(uri)
    return uri if "@" not in parts.netloc else parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl()


def check_reachable(uri: str) -> None:
    """Raise SyncTargetUnavailable if no server answers at `uri`. Faster than importing MLflow to find out."""
    parts = urlsplit(uri)
    address = (parts.hostname or "", parts.port or _PORTS.get(parts.scheme, 80))
    try:
        socket.create_connection(address, CONNECT_TIMEOUT_S).close()
    except OSError as error:
        raise SyncTargetUnavailable(f"MLflow at {address[0]}:{address[1]} does not answer ({error}).") from error
