"""Make words of the older systems, on the engine; `init-airflow` and `start` are in test_airflow.py."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.compose.stack import CommandFailed, Stack
from tests.e2e.api import catalogue
from tests.waiting import eventually

pytestmark = [pytest.mark.compose, pytest.mark.timeout(900)]

ROWS = 60


def test_docker_ps_lists_the_containers(platform: Stack) -> None:
    listed = platform.make("docker-ps")
    assert all(container.service in listed for container in platform.containers())


def test_docker_cp_traincsv_ingests_a_file_of_this_machine(platform: Stack, sample: Path, tmp_path: Path) -> None:
    path = tmp_path / "rakuten_train.csv"
    with pytest.raises(CommandFailed, match="name yours: make docker-cp-traincsv TRAIN_CSV="):
        platform.make("docker-cp-traincsv", f"TRAIN_CSV={path}")
    path.write_bytes(catalogue(sample, 0, ROWS).labelled)

    said = platform.make("docker-cp-traincsv", f"TRAIN_CSV={path}", within_s=300)

    assert '"dataset_version"' in said
    with platform.client(platform.admin_token()) as client:
        assert eventually(lambda: client.get("/datasets").json()["datasets"])
        newest = client.get("/datasets").json()["datasets"][0]
        dataset = client.get(f"/datasets/{newest['version']}").json()
    assert dataset["version"] in said
    assert (dataset["demo"], 0 < dataset["rows"] <= ROWS) == (False, True)
