"""A platform as its users see it, wherever it runs: the same tests hold for processes and for containers."""

from __future__ import annotations

import ssl
from abc import ABC, abstractmethod
from typing import Any

import httpx2

from tests.waiting import PATIENCE_S


class Deployment(ABC):
    """One address, and the first admin's name and password."""

    @property
    @abstractmethod
    def base_url(self) -> str:
        """The public address."""

    @property
    @abstractmethod
    def admin(self) -> tuple[str, str]:
        """The first admin's name and password."""

    @abstractmethod
    def promotions(self) -> list[dict[str, Any]]:
        """Return the audit rows from the database, oldest first."""

    @property
    def verify(self) -> ssl.SSLContext | bool:
        """What the server's certificate is checked against."""
        return True

    def token(self, username: str, password: str) -> str:
        """Log in and return the access token."""
        with self.client() as client:
            answer = client.post("/token", data={"username": username, "password": password})
        answer.raise_for_status()
        return str(answer.json()["access_token"])

    def admin_token(self) -> str:
        """Return a fresh access token of the first admin."""
        return self.token(*self.admin)

    def client(self, token: str | None = None) -> httpx2.Client:
        """Return a client that sends `token`; close it, or use it in a `with`."""
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        return httpx2.Client(base_url=self.base_url, headers=headers, timeout=PATIENCE_S, verify=self.verify)
