"""Stops: in time, in order, and losing nothing."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.compose.stack import Stack
from tests.compose.test_crashes import KILLED, state
from tests.e2e.api import add_user
from tests.waiting import eventually

pytestmark = [pytest.mark.compose, pytest.mark.timeout(900)]

OURS = {"gateway", "auth", "ingest", "train", "train-worker", "predict"}


def test_each_container_ends_before_it_is_killed(platform: Stack) -> None:
    statuses = {}
    for service in platform.lasting_services():
        container = platform.container(service)
        platform.docker("stop", container.id)  # kills what has not ended within its `stop_grace_period`
        statuses[service] = platform.container(service).exit_code
        platform.docker("start", container.id)
    platform.wait_until_whole(120)
    assert not [service for service, status in statuses.items() if str(status) == KILLED]
    assert {statuses[service] for service in OURS} == {0}, statuses


def test_a_stop_and_a_start_lose_nothing(platform: Stack, sample: Path) -> None:
    with platform.client(platform.admin_token()) as client:
        add_user(client, "stays", "a password that stays 1")
        jobs = client.get("/train/jobs").json()
    before, promotions = state(platform, sample), platform.promotions()

    platform.compose("stop", within_s=180)
    assert not platform.lasting_services()
    platform.up()

    assert eventually(lambda: state(platform, sample) == before, 60)
    assert platform.promotions() == promotions
    with platform.client(platform.admin_token()) as client:
        assert client.get("/train/jobs").json() == jobs
        assert client.delete("/users/stays").status_code in (200, 204)


def test_predictions_under_way_are_written_before_a_stop(platform: Stack) -> None:
    with platform.client(platform.admin_token()) as client:
        ids = {
            client.post("/predict", json={"designation": f"Piscine {number}"}).json()["prediction_id"]
            for number in range(20)
        }
    platform.docker("stop", "--time", "10", platform.container("predict").id)
    listed = ", ".join(f"'{one}'" for one in ids)
    found = platform.rows(f"SELECT prediction_id FROM predictions WHERE prediction_id IN ({listed})")
    platform.docker("start", platform.container("predict").id)
    platform.wait_until_whole(60)
    assert len(found) == len(ids)
