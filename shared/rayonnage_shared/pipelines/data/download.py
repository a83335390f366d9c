"""Download raw files from HTTP or S3 into `data/raw`: bounded in time and size, each file complete or not at all."""

from __future__ import annotations

import contextlib
import re
import time
from collections.abc import Iterator
from http.client import HTTPException, HTTPResponse
from pathlib import Path, PurePosixPath
from typing import Any, Protocol
from urllib.parse import SplitResult, quote, unquote, urljoin, urlsplit

from rayonnage_shared.core.files import sync_to_disk
from rayonnage_shared.core.optional_parts import S3
from rayonnage_shared.ml.base.progress import Progress, silent
from rayonnage_shared.pipelines.data.addresses import DownloadFailed, DownloadRefused, allowed_address, connect
from rayonnage_shared.pipelines.data.settings import DataStageSettings

SILENCE_S = 30.0
"""Longest wait for a connection or for the next bytes, in seconds."""
MAX_REDIRECTS = 5
MAX_OBJECTS = 10_000
_CHUNK_BYTES = 1 << 20
_NAME = re.compile(r"[\w][\w .()+-]{0,199}")
_REDIRECTS = (301, 302, 303, 307, 308)


def download(settings: DataStageSettings, source: str | None = None, progress: Progress = silent) -> list[Path]:
    """Download what `source`, else DATASET_URL, names into `data/raw`; return the files.

    A file appears under its name once it is complete and replaces an earlier one. Raises DownloadRefused or
    DownloadFailed; files that were complete by then stay. Raises PartMissing for an s3:// address without an S3 client.
    """
    wanted = source or settings.dataset_url
    if not wanted:
        raise DownloadRefused("Name what to download: an address, or DATASET_URL.")
    settings.raw_path.mkdir(parents=True, exist_ok=True)
    budget = _Budget(settings.dataset_max_bytes, time.monotonic() + settings.dataset_timeout_s)
    try:
        return list(_files(settings, wanted.split(), budget, progress))
    except (OSError, HTTPException) as error:
        raise DownloadFailed(f"{type(error).__name__}: {error}") from error


def _files(settings: DataStageSettings, wanted: list[str], budget: _Budget, progress: Progress) -> Iterator[Path]:
    for number, address in enumerate(wanted):
        progress(number / len(wanted), address)
        parts = urlsplit(address)
        if parts.scheme == "s3":
            yield from _from_s3(settings, parts, budget, progress)
        elif parts.scheme in ("http", "https"):
            with _response(address, settings, budget) as response:
                length = response.getheader("Content-Length") or ""
                name = _file_name(unquote(parts.path))
                yield _save(response, length, settings.raw_path / name, budget)
        else:
            raise DownloadRefused(f"{address} does not begin with https://, http:// or s3://.")
    progress(1.0, f"{len(wanted)} addresses")


class _Budget:
    """The bytes and the time that one download has left."""

    def __init__(self, max_bytes: int, deadline: float) -> None:
        self._max_bytes = self._left = max_bytes
        self._deadline = deadline

    def announce(self, length: str) -> None:
        """Refuse a file whose announced length is beyond the limit."""
        if length.isdecimal() and int(length) > self._left:
            raise self._too_large()

    def take(self, count: int) -> None:
        """Count bytes that have arrived. Raises DownloadRefused beyond the limits."""
        self._left -= count
        if self._left < 0:
            raise self._too_large()
        self.check_time()

    def check_time(self) -> None:
        """Raise DownloadFailed after the time limit."""
        if time.monotonic() > self._deadline:
            raise DownloadFailed("The time limit is reached (DATASET_TIMEOUT_S).")

    def _too_large(self) -> DownloadRefused:
        return DownloadRefused(f"The files are larger than {self._max_bytes:,} bytes (DATASET_MAX_BYTES).")


class _Readable(Protocol):
    def read(self, amount: int, /) -> bytes: ...


@contextlib.contextmanager
def _response(address: str, settings: DataStageSettings, budget: _Budget) -> Iterator[HTTPResponse]:
    """Yield the answer of status 200, after redirects, each of whose hosts is checked too."""
    for _ in range(MAX_REDIRECTS + 1):
        budget.check_time()
        parts = _http_parts(address)
        tls = parts.scheme == "https"
        host, port = parts.hostname or "", parts.port or (443 if tls else 80)
        allow = settings.dataset_private_addresses
        connection = connect(host, port, tls=tls, timeout_s=SILENCE_S, allow_private=allow)
        with contextlib.closing(connection):
            target = quote(parts.path or "/", safe="/%:@!$&'()*+,;=~") + (f"?{parts.query}" if parts.query else "")
            connection.request("GET", target, headers={"Accept-Encoding": "identity", "User-Agent": "rayonnage"})
            response = connection.getresponse()
            if response.status == 200:
                yield response
                return
            if response.status not in _REDIRECTS:
                raise DownloadFailed(f"{address} answers {response.status} {response.reason}.")
            target = urljoin(address, response.getheader("Location") or "")
            if tls and not target.startswith("https://"):
                raise DownloadRefused(f"{address} redirects to {target}, without encryption.")
            address = target
    raise DownloadFailed(f"More than {MAX_REDIRECTS} redirects.")


def _http_parts(address: str) -> SplitResult:
    try:
        parts = urlsplit(address)
        valid = parts.scheme in ("http", "https") and bool(parts.hostname) and (parts.port is None or parts.port > 0)
    except ValueError:
        valid = False
    if not valid:
        raise DownloadRefused(f"{address[:200]} is not an http(s) address.")
    return parts


def _file_name(path: str) -> str:
    name = PurePosixPath(path).name
    if not _NAME.fullmatch(name):
        raise DownloadRefused(f"The address does not end with a file name: {path[:200]!r}.")
    return name


def _save(content: _Readable, length: str, target: Path, budget: _Budget) -> Path:
    """Write the content beside `target` and rename it; nothing stays of an incomplete file."""
    budget.announce(length)
    partial = target.with_name(f".{target.name}.part")
    try:
        with partial.open("wb") as file:
            while chunk := content.read(_CHUNK_BYTES):
                budget.take(len(chunk))
                file.write(chunk)
            if length.isdecimal() and file.tell() != int(length):
                raise DownloadFailed(f"{target.name} ended after {file.tell():,} of {length} bytes.")
        sync_to_disk(partial)
        partial.replace(target)
        sync_to_disk(target.parent)
    finally:
        partial.unlink(missing_ok=True)
    return target


def _from_s3(settings: DataStageSettings, address: SplitResult, budget: _Budget, progress: Progress) -> Iterator[Path]:
    S3.require()
    from botocore.exceptions import BotoCoreError, ClientError

    client, bucket, prefix = _s3_client(settings), address.netloc, address.path.lstrip("/")
    try:
        keys = _keys(client, bucket, prefix)
        if not keys:
            raise DownloadFailed(f"There is nothing at s3://{bucket}/{prefix}.")
        for number, key in enumerate(keys):
            budget.check_time()
            progress(number / len(keys), key)
            found = client.get_object(Bucket=bucket, Key=key)
            with contextlib.closing(found["Body"]) as body:
                yield _save(body, str(found["ContentLength"]), settings.raw_path / _file_name(key), budget)
    except (BotoCoreError, ClientError) as error:
        raise DownloadFailed(f"s3://{bucket}/{prefix}: {error}") from error


def _keys(client: Any, bucket: str, prefix: str) -> list[str]:
    """Return the keys at `prefix`, which is a key or a folder; subfolders are not searched. Raises DownloadRefused."""
    keys: list[str] = []
    folder = prefix if not prefix or prefix.endswith("/") else f"{prefix}/"
    for page in client.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=prefix):
        for found in page.get("Contents", ()):
            key = str(found["Key"])
            if key == prefix or (key.startswith(folder) and "/" not in key.removeprefix(folder) and key != folder):
                keys.append(key)
        if len(keys) > MAX_OBJECTS:
            raise DownloadRefused(f"There are more than {MAX_OBJECTS:,} objects; pack the photos into one zip.")
    return keys


def _s3_client(settings: DataStageSettings) -> Any:
    import botocore.session
    from botocore.config import Config

    endpoint = settings.dataset_endpoint_url
    if endpoint is not None:
        parts = _http_parts(endpoint)
        port = parts.port or (443 if parts.scheme == "https" else 80)
        allowed_address(parts.hostname or "", port, allow_private=settings.dataset_private_addresses)
    secret = settings.dataset_secret_access_key
    return botocore.session.get_session().create_client(
        "s3",
        region_name=None if endpoint is None else "us-east-1",
        endpoint_url=endpoint,
        aws_access_key_id=settings.dataset_access_key_id,
        aws_secret_access_key=secret.get_secret_value() if secret else None,
        config=Config(
            connect_timeout=SILENCE_S,
            read_timeout=SILENCE_S,
            retries={"total_max_attempts": 2},
            s3={"addressing_style": "auto" if endpoint is None else "path"},
        ),
    )
