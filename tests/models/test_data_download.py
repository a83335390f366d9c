"""Raw files from a real S3 server: `rayonnage data download` and what it leads to."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import botocore.session
import pytest

from rayonnage_shared.ml.catalogue.datasets import DatasetStore
from tests.sample import write_first_rows
from tests.system.seaweedfs import ACCESS_KEY, REGION, SECRET_KEY, S3Server, s3_server
from tests.waiting import PATIENCE_S

pytestmark = pytest.mark.models

ROWS = 80
NAMES = ("features.csv", "target.csv", "images.zip")
MANY = 1100  # an S3 server lists at most 1,000 objects at a time


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the raw files."""
    return write_first_rows(tmp_path_factory.mktemp("raw"), ROWS)


@pytest.fixture(scope="module")
def s3(files: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[S3Server]:
    """A server with the raw files in the folder `rakuten`, one of a deeper folder, and many small objects."""
    with s3_server(tmp_path_factory.mktemp("s3")) as server:
        client = botocore.session.get_session().create_client(
            "s3",
            region_name=REGION,
            endpoint_url=server.endpoint,
            aws_access_key_id=ACCESS_KEY,
            aws_secret_access_key=SECRET_KEY,
        )
        for name in NAMES:
            client.put_object(Bucket=server.bucket, Key=f"rakuten/{name}", Body=(files / name).read_bytes())
        client.put_object(Bucket=server.bucket, Key="rakuten/deeper/features.csv", Body=b"another")
        for number in range(MANY):
            client.put_object(Bucket=server.bucket, Key=f"many/{number:04d}.jpg", Body=b"x")
        yield server


def data(home: Path, server: S3Server, *arguments: str, **settings: str) -> subprocess.CompletedProcess[str]:
    """Run `rayonnage data` in `home` with the settings of the server."""
    kept = {name: value for name, value in os.environ.items() if name in ("PATH", "LANG", "TMPDIR", "PYTHONPATH")}
    environment = {
        "HOME": str(home),
        "DATABASE_URL": f"sqlite:///{home}/rayonnage.db",
        "MLFLOW_TRACKING_URI": "",
        "DVC_REMOTE_URL": "",
        "DATASET_URL": f"s3://{server.bucket}/rakuten",
        "DATASET_ENDPOINT_URL": server.endpoint,
        "DATASET_ACCESS_KEY_ID": ACCESS_KEY,
        "DATASET_SECRET_ACCESS_KEY": SECRET_KEY,
        "DATASET_PRIVATE_ADDRESSES": "true",
    }
    return subprocess.run(
        [sys.executable, "-m", "rayonnage_shared.cli.main", "data", *arguments],
        check=False,
        cwd=home,
        env=kept | environment | settings,
        capture_output=True,
        text=True,
        timeout=PATIENCE_S,
    )


def downloaded(home: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in (home / "data" / "raw").glob("*")}


def test_the_files_of_a_folder_become_a_dataset(s3: S3Server, files: Path, tmp_path: Path) -> None:
    done = data(tmp_path, s3, "build")

    assert done.returncode == 0, done.stdout + done.stderr
    assert downloaded(tmp_path) == {name: (files / name).read_bytes() for name in NAMES}
    store = DatasetStore(tmp_path / "data")
    version = store.current()
    assert version is not None
    found = store.describe(version)
    assert found.rows > ROWS / 2 and found.rows_with_image > 0 and not found.demo
    assert (tmp_path / "data" / "processed" / version / "train.npz").is_file()


def test_one_object_is_downloaded_alone(s3: S3Server, tmp_path: Path) -> None:
    done = data(tmp_path, s3, "download", f"s3://{s3.bucket}/rakuten/target.csv")
    assert done.returncode == 0, done.stderr
    assert set(downloaded(tmp_path)) == {"target.csv"}


def test_more_objects_than_one_answer_lists_are_all_downloaded(s3: S3Server, tmp_path: Path) -> None:
    done = data(tmp_path, s3, "download", f"s3://{s3.bucket}/many/")
    assert done.returncode == 0, done.stderr
    assert len(downloaded(tmp_path)) == MANY


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"DATASET_SECRET_ACCESS_KEY": "wrong"}, "SignatureDoesNotMatch"),
        ({"DATASET_ACCESS_KEY_ID": "nobody"}, "InvalidAccessKeyId"),
        ({"DATASET_URL": "s3://no-such-bucket/rakuten"}, "s3://no-such-bucket/rakuten"),
        ({"DATASET_URL": "s3://rayonnage/nothing/"}, "There is nothing at s3://rayonnage/nothing/"),
        ({"DATASET_PRIVATE_ADDRESSES": "false"}, "DATASET_PRIVATE_ADDRESSES=true allows it"),
        ({"DATASET_MAX_BYTES": "1000"}, "DATASET_MAX_BYTES"),
    ],
)
def test_a_download_that_cannot_be_says_why_and_leaves_no_part(
    s3: S3Server, tmp_path: Path, settings: dict[str, str], said: str
) -> None:
    done = data(tmp_path, s3, "download", **settings)
    assert done.returncode == 1, done.stdout
    assert said in " ".join(done.stderr.split()), done.stderr
    assert "Traceback" not in done.stderr and SECRET_KEY not in done.stderr
    assert not any(name.endswith(".part") for name in downloaded(tmp_path))
