"""The auth service alone, as the supervisor starts it."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import httpx2

from tests.ports import free_port
from tests.processes import killed_at_end
from tests.waiting import PATIENCE_S, eventually

PASSWORD = "correct-horse-battery"


@contextlib.contextmanager
def auth_process(folder: Path, **settings: str) -> Iterator[httpx2.Client]:
    port = free_port()
    environment = {
        **os.environ,
        "AUTH_PORT": str(port),
        "DATABASE_URL": f"sqlite:///{folder}/rayonnage.db",
        "AUTH_KEYS_PATH": str(folder / "keys"),
        "ADMIN_USERNAME": "root",
        "ADMIN_PASSWORD": PASSWORD,
        **settings,
    }
    command = [sys.executable, "-m", "rayonnage_auth"]
    with (
        killed_at_end(subprocess.Popen(command, cwd=folder, env=environment)) as process,
        httpx2.Client(base_url=f"http://127.0.0.1:{port}", timeout=PATIENCE_S) as client,
    ):
        assert eventually(lambda: process.poll() is not None or is_ready(client)), "auth did not become ready"
        assert process.poll() is None, "auth ended before it was ready"
        yield client


def is_ready(client: httpx2.Client) -> bool:
    with contextlib.suppress(httpx2.TransportError):
        return client.get("/health/ready").status_code == 200
    return False
