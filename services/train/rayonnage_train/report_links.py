"""Signed links that open the page of one drift report in a browser, which sends no bearer token.

A link is an HMAC of the report's id and the link's end. It is neither a token nor an argument of any other route.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import secrets
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from urllib.parse import urlencode

from rayonnage_shared.core.errors import RayonnageError
from rayonnage_shared.core.files import write_atomically
from rayonnage_shared.drift.report_files import reports_folder
from rayonnage_shared.drift.schemas import DriftLink

LINK_LIFE_S = 300
KEY_NAME = ".link-key"
_KEY_BYTES = 32


class LinkNotValid(RayonnageError):
    status, code, title = 403, "link_not_valid", "The link is not valid"


class ReportLinks:
    """Creates and checks links. The key lies beside the reports, whose readers on disk need no link.

    Replicas of train share the key, and it survives a restart. Deleting its file ends all links.
    """

    def __init__(self, data_path: Path, clock: Callable[[], float] = time.time) -> None:
        self._path = reports_folder(data_path) / KEY_NAME
        self._clock = clock
        self._lock = threading.Lock()

    def create(self, report_id: str) -> DriftLink:
        """Return a link to a report's page that is valid for LINK_LIFE_S seconds."""
        expires = int(self._clock()) + LINK_LIFE_S
        query = urlencode({"expires": expires, "signature": _signature(self._key(), report_id, expires)})
        return DriftLink(url=f"/drift/{report_id}/page?{query}", expires_at=datetime.fromtimestamp(expires, UTC))

    def check(self, report_id: str, expires: int, signature: str) -> None:
        """Return if the link is valid. Raises LinkNotValid."""
        expected = _signature(self._key(), report_id, expires)
        if not hmac.compare_digest(expected.encode(), signature.encode("utf-8", "replace")):
            raise LinkNotValid(f"The link was altered or is not complete. {_new_one(report_id)}")
        if expires <= self._clock():
            raise LinkNotValid(f"The link has expired. {_new_one(report_id)}")

    def _key(self) -> bytes:
        with self._lock:
            found = self._path.read_bytes() if self._path.exists() else b""
            if len(found) != _KEY_BYTES:
                self._path.parent.mkdir(parents=True, exist_ok=True)
                found = secrets.token_bytes(_KEY_BYTES)
                write_atomically(self._path, found, mode=0o600)
            return found


def _signature(key: bytes, report_id: str, expires: int) -> str:
    digest = hmac.new(key, f"drift report page\n{report_id}\n{expires}".encode(), hashlib.sha256).digest()
    return base64.urlsafe_b64encode(digest).rstrip(b"=").decode()


def _new_one(report_id: str) -> str:
    return f"A logged-in user gets a new one at POST /drift/{report_id[:64]}/link."
