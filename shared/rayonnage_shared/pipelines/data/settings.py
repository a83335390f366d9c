"""Settings of the data stages."""

from __future__ import annotations

from pathlib import Path

from pydantic import Field

from rayonnage_shared.core.settings import OptionalSecret, OptionalText, StorageSettings


class DataStageSettings(StorageSettings):
    """Where the raw files come from, and the limits of their download."""

    dataset_url: OptionalText = Field(
        None,
        description="What `rayonnage data download` fetches: http(s) addresses of files, separated by spaces, or "
        "s3://bucket/prefix.",
    )
    dataset_endpoint_url: OptionalText = Field(
        None, description="URL of the S3 server of DATASET_URL, if it is not Amazon's."
    )
    dataset_access_key_id: OptionalText = Field(
        None, description="S3 access key for DATASET_URL; without it the machine's AWS configuration is used."
    )
    dataset_secret_access_key: OptionalSecret = Field(None, description="Secret of DATASET_ACCESS_KEY_ID.")
    dataset_max_bytes: int = Field(
        8 * 1024**3, gt=0, description="Largest size of all files of one download together, bytes."
    )
    dataset_timeout_s: float = Field(3600, gt=0, description="Time limit of one download, seconds.")
    dataset_private_addresses: bool = Field(
        False,
        description="Allow downloads from private, loopback and link-local addresses, such as a server of your own.",
    )

    @property
    def raw_path(self) -> Path:
        """Folder of the raw files."""
        return self.data_path / "raw"

    @property
    def interim_path(self) -> Path:
        """Folder of what the stages write before there is a dataset version."""
        return self.data_path / "interim"
