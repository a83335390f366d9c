"""Start the MLflow server: from the command line, or as the main module of its container."""

from __future__ import annotations

import os
import sys
from importlib import metadata

from rayonnage_shared.sync.mlflow.address import sqlite_path
from rayonnage_shared.sync.mlflow.settings import MlflowServerSettings

DEFAULT_STORE = "sqlite:///data/mlflow.db"


class ServerMissing(Exception):
    """MLflow's server is not installed, only its client."""


def store_address(settings: MlflowServerSettings) -> str:
    """Return the store to serve: the configured one, else the SQLite file that the sync target writes to."""
    own = settings.mlflow_tracking_uri or ""
    return settings.mlflow_backend_store_uri or (own if sqlite_path(own) else DEFAULT_STORE)


def server_command(settings: MlflowServerSettings) -> list[str]:
    """Return the command of the server, its program first. Raises ServerMissing."""
    try:
        metadata.version("mlflow")
    except metadata.PackageNotFoundError as error:
        raise ServerMissing("MLflow's server is not installed; `make mlflow` installs and starts it.") from error
    return [sys.executable, "-m", "mlflow", *server_arguments(settings)]


def server_arguments(settings: MlflowServerSettings, *, with_store: bool = True) -> list[str]:
    """Return the arguments of `mlflow`. The store's address is passed in the environment."""
    options = {
        **({"backend-store-uri": store_address(settings)} if with_store else {}),
        "artifacts-destination": str(settings.mlflow_artifacts_path.resolve()),
        "host": settings.mlflow_host,
        "port": str(settings.mlflow_port),
        "allowed-hosts": settings.mlflow_allowed_hosts,
        "workers": "1",
        "uvicorn-opts": "--no-access-log",  # its health is polled every few seconds
    }
    named = [part for name, value in options.items() for part in (f"--{name}", value)]
    return ["server", "--serve-artifacts", *named]


def server_environment() -> dict[str, str]:
    """Return the server's environment: two processes instead of ten, and telemetry disabled."""
    return {
        "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "DO_NOT_TRACK": "true",
    }


def main() -> None:
    """Replace this process by the server. The store's URL may contain a password, so `ps` must not show it."""
    settings = MlflowServerSettings()
    command = [sys.executable, "-m", "mlflow", *server_arguments(settings, with_store=False)]
    store = {"MLFLOW_BACKEND_STORE_URI": store_address(settings)}
    os.execve(command[0], command, {**os.environ, **server_environment(), **store})  # noqa: S606 - signals reach it


if __name__ == "__main__":
    main()
