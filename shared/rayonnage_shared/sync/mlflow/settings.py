"""Settings of MLflow, client and server."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pydantic import Field, field_validator, model_validator

from rayonnage_shared.core.settings import OptionalSecret, OptionalText
from rayonnage_shared.core.validation import wrong_value
from rayonnage_shared.sync.dagshub import DagshubSettings, with_dagshub

MLFLOW_SCHEMES = ("sqlite:///", "http://", "https://")


class MlflowSettings(DagshubSettings):
    """Where MLflow is, and its timeouts."""

    mlflow_tracking_uri: OptionalText = Field(
        "sqlite:///data/mlflow.db",
        description="MLflow's store: an SQLite file, or the http(s) address of a server; empty for no tracking.",
    )
    mlflow_artifacts_path: Path = Field(
        Path("data/mlflow-artifacts"), description="Folder of plots and models when MLflow's store is an SQLite file."
    )
    mlflow_experiment_name: str = Field("rayonnage", min_length=1, description="MLflow experiment that holds the runs.")
    mlflow_model_name: str = Field("rayonnage", min_length=1, description="Name of the model in MLflow's registry.")
    mlflow_tracking_username: OptionalText = Field(None, description="User of an MLflow server that asks for one.")
    mlflow_tracking_password: OptionalSecret = Field(None, description="Password or token of that user.")
    mlflow_http_request_timeout: int = Field(
        10, ge=1, le=600, description="Longest silence of an MLflow server in one request, seconds."
    )
    mlflow_http_request_max_retries: int = Field(
        1, ge=0, le=10, description="Retries of one request to MLflow; the sync itself retries until it succeeds."
    )
    mlflow_api_metrics_every_s: float = Field(
        300, ge=1, description="Seconds between two points of the API's metrics (requests, durations) in MLflow."
    )

    @field_validator("mlflow_tracking_uri")
    @classmethod
    def _known_store(cls, value: str | None) -> str | None:
        if value and not value.startswith(MLFLOW_SCHEMES):
            raise wrong_value("must be empty or begin with sqlite:///, http:// or https://")
        return value

    @model_validator(mode="before")
    @classmethod
    def _log_in_at_dagshubs_mlflow(cls, values: Any) -> Any:
        login = ("mlflow_tracking_username", "mlflow_tracking_password")
        return with_dagshub(values, "mlflow_tracking_uri", login)


class MlflowServerSettings(MlflowSettings):
    """What `make mlflow` reads."""

    mlflow_host: str = Field("127.0.0.1", description="Address that `make mlflow` listens on.")
    mlflow_port: int = Field(5001, ge=1, le=65535, description="Port that `make mlflow` listens on.")
    mlflow_backend_store_uri: OptionalText = Field(
        None, description="Store that `make mlflow` serves; default: the SQLite file of MLFLOW_TRACKING_URI."
    )
    mlflow_allowed_hosts: str = Field(
        "localhost:*,127.0.0.1:*", description="Host headers that `make mlflow` answers to, by commas."
    )
