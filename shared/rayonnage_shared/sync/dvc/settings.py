"""Settings of the DVC remote."""

from __future__ import annotations

from typing import Any

from pydantic import Field, field_validator, model_validator

from rayonnage_shared.core.settings import OptionalSecret, OptionalText, StorageSettings
from rayonnage_shared.core.validation import wrong_value
from rayonnage_shared.sync.dagshub import DagshubSettings, with_dagshub

DVC_SCHEMES = ("s3", "https", "http")


class VersioningSettings(StorageSettings, DagshubSettings):
    """The DVC remote of dataset versions and bundles."""

    dvc_remote_url: OptionalText = Field(
        "data/dvc-remote",
        description="DVC remote: a folder, s3://bucket/prefix or https://…; empty to turn DVC off.",
    )
    dvc_endpoint_url: OptionalText = Field(
        None, description="URL of an S3 server other than Amazon's: MinIO, SeaweedFS, DagsHub."
    )
    dvc_region: OptionalText = Field(None, description="Region of the S3 bucket.")
    dvc_access_key_id: OptionalText = Field(
        None, description="S3 access key; without it the machine's AWS configuration is used."
    )
    dvc_secret_access_key: OptionalSecret = Field(None, description="Secret of the S3 access key.")
    dvc_user: OptionalText = Field(None, description="User of an https remote, such as DagsHub's.")
    dvc_password: OptionalSecret = Field(None, description="Password or token of that user.")
    dvc_lock_wait_s: float = Field(
        60, ge=0, description="Maximum wait for another process that uses DVC in this project, seconds."
    )

    @field_validator("dvc_remote_url")
    @classmethod
    def _known_scheme(cls, value: str | None) -> str | None:
        scheme, found, _ = (value or "").partition("://")
        if found and scheme not in DVC_SCHEMES:
            raise wrong_value("must be a folder or begin with s3://, https:// or http://")
        return value

    @model_validator(mode="before")
    @classmethod
    def _log_in_at_dagshub(cls, values: Any) -> Any:
        keys = ("dvc_access_key_id", "dvc_secret_access_key")
        values = with_dagshub(values, "dvc_endpoint_url", keys, user_is_token=True)
        return with_dagshub(values, "dvc_remote_url", ("dvc_user", "dvc_password"))
