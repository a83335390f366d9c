"""A real MLflow server over a store of the test's own, started as `make mlflow` starts it."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path

import pytest

from rayonnage_shared.sync.mlflow.server import server_arguments, server_environment
from rayonnage_shared.sync.mlflow.settings import MlflowServerSettings

READY_WITHIN_S = 180  # half a minute of imports and tables on two cores that have other work too


def server_python() -> str:
    """Return an interpreter that has MLflow's server: this one, or the one that MLFLOW_PYTHON names."""
    named = os.environ.get("MLFLOW_PYTHON")
    if named:
        return named
    try:
        metadata.version("mlflow")
    except metadata.PackageNotFoundError:
        pytest.fail("MLflow's server is not installed: `make test-models` installs it, or MLFLOW_PYTHON names one")
    return sys.executable


@dataclass
class MlflowServer:
    """Starts and stops on one port over one store."""

    folder: Path
    port: int
    store: str
    process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def start(self) -> None:
        """Return when the server answers."""
        settings = MlflowServerSettings(
            mlflow_tracking_uri=self.store,
            mlflow_backend_store_uri=self.store,
            mlflow_artifacts_path=self.folder / "mlflow-artifacts",
            mlflow_port=self.port,
        )
        command = [server_python(), "-m", "mlflow", *server_arguments(settings)]
        environment = {name: value for name, value in os.environ.items() if not name.startswith("MLFLOW_")}
        with (self.folder / "mlflow.log").open("ab") as log:
            self.process = subprocess.Popen(
                command,
                cwd=self.folder,
                env=environment | server_environment(),
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        deadline = time.monotonic() + READY_WITHIN_S
        while not self.answers():
            assert self.process.poll() is None, (self.folder / "mlflow.log").read_text()[-3000:]
            assert time.monotonic() < deadline, "the server was not ready in time"
            time.sleep(0.2)

    def stop(self) -> None:
        if self.process is not None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()
            self.process = None

    def answers(self) -> bool:
        try:
            return self.status("/health") == 200
        except OSError:
            return False

    def status(self, path: str, host: str | None = None) -> int:
        """Return the status of a page, asked for by another host name if one is given."""
        request = urllib.request.Request(self.url + path, headers={"Host": host} if host else {})
        try:
            with urllib.request.urlopen(request, timeout=20) as answer:
                return int(answer.status)
        except urllib.error.HTTPError as error:
            error.close()
            return error.code


@contextlib.contextmanager
def mlflow_server(folder: Path, port: int, store: str | None = None) -> Iterator[MlflowServer]:
    """Yield a server that is not started yet; what runs at the end is stopped."""
    server = MlflowServer(folder, port, store or f"sqlite:///{folder}/server.db")
    try:
        yield server
    finally:
        server.stop()
