"""How `make mlflow` starts MLflow's server."""

from __future__ import annotations

import os
import sys
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest

from rayonnage_shared.core.errors import InvalidSetting
from rayonnage_shared.sync.mlflow.server import (
    ServerMissing,
    main,
    server_arguments,
    server_command,
    server_environment,
    store_address,
)
from rayonnage_shared.sync.mlflow.settings import MlflowServerSettings


def options(settings: MlflowServerSettings) -> dict[str, str]:
    arguments = server_arguments(settings)
    return {
        name: value
        for name, value in zip(arguments, [*arguments[1:], ""], strict=True)
        if name.startswith("--") and not value.startswith("--")
    }


def test_it_serves_what_the_sync_target_writes(tmp_path: Path) -> None:
    found = options(MlflowServerSettings(mlflow_artifacts_path=tmp_path / "files"))

    assert found["--backend-store-uri"] == "sqlite:///data/mlflow.db"
    assert found["--artifacts-destination"] == str(tmp_path / "files")
    assert (found["--host"], found["--port"]) == ("127.0.0.1", "5001")


def test_the_stores_address_may_stay_out_of_what_everybody_on_the_machine_can_read() -> None:
    settings = MlflowServerSettings(mlflow_backend_store_uri="postgresql+psycopg://rayonnage:secret@postgres/mlflow")

    assert "secret" in " ".join(server_arguments(settings))
    assert "secret" not in " ".join(server_arguments(settings, with_store=False))


def test_in_its_container_the_server_finds_the_store_in_its_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    became: dict[str, Any] = {}
    monkeypatch.setattr(os, "execve", lambda path, arguments, environment: became.update(a=arguments, e=environment))
    monkeypatch.setenv("MLFLOW_BACKEND_STORE_URI", "postgresql+psycopg://rayonnage:secret@postgres/mlflow")

    main()

    assert became["a"][:4] == [sys.executable, "-m", "mlflow", "server"]
    assert not any("secret" in argument for argument in became["a"])
    assert became["e"]["MLFLOW_BACKEND_STORE_URI"] == "postgresql+psycopg://rayonnage:secret@postgres/mlflow"
    assert became["e"]["MLFLOW_DISABLE_TELEMETRY"] == "true"


def test_only_this_machine_names_are_answered_to() -> None:
    assert options(MlflowServerSettings())["--allowed-hosts"] == "localhost:*,127.0.0.1:*"


def test_it_runs_no_jobs_and_tells_its_makers_nothing() -> None:
    assert server_environment() == {
        "MLFLOW_SERVER_ENABLE_JOB_EXECUTION": "false",
        "MLFLOW_DISABLE_TELEMETRY": "true",
        "DO_NOT_TRACK": "true",
    }


@pytest.mark.parametrize(
    ("tracking", "backend", "served"),
    [
        ("sqlite:///elsewhere.db", None, "sqlite:///elsewhere.db"),
        ("http://127.0.0.1:5001", None, "sqlite:///data/mlflow.db"),
        ("http://127.0.0.1:5001", "postgresql://db/mlflow", "postgresql://db/mlflow"),
        ("", None, "sqlite:///data/mlflow.db"),
    ],
)
def test_a_server_that_the_sync_target_uses_has_a_store_of_its_own(
    tracking: str, backend: str | None, served: str
) -> None:
    settings = MlflowServerSettings(mlflow_tracking_uri=tracking, mlflow_backend_store_uri=backend)

    assert store_address(settings) == served


def test_says_what_to_do_where_only_the_client_is_installed(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(name: str) -> str:
        raise metadata.PackageNotFoundError(name)

    monkeypatch.setattr(metadata, "version", missing)
    with pytest.raises(ServerMissing, match="make mlflow"):
        server_command(MlflowServerSettings())


def test_the_server_runs_in_this_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(metadata, "version", lambda name: "3.17.2")

    assert server_command(MlflowServerSettings())[:4] == [sys.executable, "-m", "mlflow", "server"]


@pytest.mark.parametrize("uri", ["databricks", "./mlruns", "file:///tmp/mlruns", "postgresql://db/mlflow"])
def test_a_store_that_the_client_cannot_use_is_refused_at_the_start(uri: str) -> None:
    with pytest.raises(InvalidSetting, match="MLFLOW_TRACKING_URI"):
        MlflowServerSettings(mlflow_tracking_uri=uri)
