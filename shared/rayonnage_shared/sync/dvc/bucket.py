"""`rayonnage make-bucket`: create the bucket of the DVC remote on a self-hosted S3 server."""

from __future__ import annotations

import time
from typing import Any
from urllib.parse import urlsplit

from rayonnage_shared.core.errors import DependencyDown
from rayonnage_shared.core.optional_parts import S3
from rayonnage_shared.sync.dvc.connection import PROBE_TIMEOUT_S, READ_TIMEOUT_S
from rayonnage_shared.sync.dvc.settings import VersioningSettings

WAIT_S = 60  # SeaweedFS accepts requests 4 s after its start on an idle machine
_PAUSE_S = 0.5
_NOT_FOUND = 404
_SERVER_ERROR = 500


class BucketNotCreated(DependencyDown):
    code, title = "bucket_not_created", "The bucket of the DVC remote cannot be created"


def bucket_name(settings: VersioningSettings) -> str | None:
    """Return the bucket to create: None unless a self-hosted S3 remote is set."""
    address = urlsplit(settings.dvc_remote_url or "")
    return address.netloc if address.scheme == "s3" and settings.dvc_endpoint_url else None


def make_bucket(settings: VersioningSettings, name: str, *, wait_s: float = WAIT_S) -> bool:
    """Create the bucket unless it exists, waiting for a server that is starting; return whether it was created.

    Raises BucketNotCreated at once if the server refuses, and after `wait_s` if it does not answer. Raises
    PartMissing without an S3 client.
    """
    S3.require()
    from botocore.exceptions import BotoCoreError, ClientError

    client = _client(settings)
    deadline = time.monotonic() + wait_s
    while True:
        try:
            return _made(client, name)
        except (BotoCoreError, ClientError) as error:
            refused = isinstance(error, ClientError) and _status(error) < _SERVER_ERROR
            if refused or time.monotonic() > deadline:
                verb = "refuses" if refused else "does not answer"
                raise BucketNotCreated(f"{settings.dvc_endpoint_url} {verb}: {error}") from error
            time.sleep(_PAUSE_S)


def _made(client: Any, name: str) -> bool:
    from botocore.exceptions import ClientError

    try:
        client.head_bucket(Bucket=name)
        return False
    except ClientError as error:
        if _status(error) != _NOT_FOUND:
            raise
    try:
        client.create_bucket(Bucket=name)
    except client.exceptions.BucketAlreadyOwnedByYou:  # another process created it first
        return False
    return True


def _status(error: Any) -> int:
    return int(error.response["ResponseMetadata"]["HTTPStatusCode"])


def _client(settings: VersioningSettings) -> Any:
    import botocore.session
    from botocore.config import Config

    secret = settings.dvc_secret_access_key
    return botocore.session.get_session().create_client(
        "s3",
        region_name=settings.dvc_region or "us-east-1",
        endpoint_url=settings.dvc_endpoint_url,
        aws_access_key_id=settings.dvc_access_key_id,
        aws_secret_access_key=secret.get_secret_value() if secret else None,
        config=Config(
            connect_timeout=PROBE_TIMEOUT_S,
            read_timeout=READ_TIMEOUT_S,
            retries={"total_max_attempts": 1},
            s3={"addressing_style": "path"},
        ),
    )
