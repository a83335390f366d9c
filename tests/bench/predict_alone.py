"""Predict by itself, to be measured."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import httpx2
import psutil

from tests.ports import free_ports
from tests.tokens import SECRET, token


@dataclass(frozen=True)
class Server:
    """A running service of one process, with a token that it accepts."""

    port: int
    process: psutil.Process
    token: str

    def cpu_s(self) -> float:
        """Return the CPU seconds that the process has used so far, in all its threads."""
        times = self.process.cpu_times()
        return float(times.user + times.system)

    def memory_mb(self) -> float:
        """Return its resident memory in MB."""
        return float(self.process.memory_info().rss) / 2**20


@contextlib.contextmanager
def predict_alone(volume: Path, home: Path, settings: Mapping[str, str] | None = None) -> Iterator[Server]:
    """Run predict over the models of `volume` without the rest of the platform; it writes its log in `home`."""
    home.mkdir(parents=True, exist_ok=True)
    (port,) = free_ports(1)
    environment = {
        "MODELS_PATH": str(volume / "models"),
        "DATA_PATH": str(volume / "data"),
        "DATABASE_URL": f"sqlite:///{home}/rayonnage.db",
        "LOGS_PATH": str(home / "logs"),
        "LOG_TO_STDOUT": "false",
        "LOG_LEVEL": "info",
        "ALGORITHM": "HS256",
        "SECRET_KEY": SECRET,
        "PREDICT_PORT": str(port),
        "PREDICT_MAX_WAIT_S": "60",  # the machine may be busy, and refused requests cost nothing
        **(settings or {}),
    }
    with running([sys.executable, "-m", "rayonnage_predict"], port, home, environment) as process:
        yield Server(port, process, token())


@contextlib.contextmanager
def running(command: list[str], port: int, folder: Path, environment: Mapping[str, str]) -> Iterator[psutil.Process]:
    """Run a server until the block ends; it answers on `port` when the block begins."""
    # One thread for BLAS, as `make run` and the images set it.
    surroundings = {**os.environ, "OMP_NUM_THREADS": "1", **environment}
    with subprocess.Popen(command, cwd=folder, env=surroundings) as started:
        try:
            _wait_until_ready(started, f"http://127.0.0.1:{port}/health/ready", within_s=60)
            yield psutil.Process(started.pid)
        finally:
            started.terminate()


def _wait_until_ready(started: subprocess.Popen[bytes], url: str, within_s: float) -> None:
    deadline = time.monotonic() + within_s
    while time.monotonic() < deadline and started.poll() is None:
        with contextlib.suppress(httpx2.HTTPError):
            if httpx2.get(url, timeout=2).status_code == 200:
                return
        time.sleep(0.05)
    raise TimeoutError(f"{url} was not ready within {within_s} s")
