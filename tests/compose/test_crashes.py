"""Containers that die: by kill -9, and because their memory ran out. Each comes back by itself, and nothing is lost."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import httpx2
import pytest

from tests.compose.stack import Container, Stack
from tests.e2e.api import finished_job, job_events, predict_form, start_training
from tests.e2e.platform import eventually

pytestmark = [pytest.mark.compose, pytest.mark.timeout(1200)]

EVERY_SERVICE = (
    *("nginx", "gateway", "auth", "ingest", "train", "train-worker", "predict"),
    *("postgres", "redis", "s3", "mlflow", "prometheus", "alertmanager", "node-exporter", "grafana", "cadvisor"),
)
RECOVERS_WITHIN_S = 60  # two busy cores, and health checks some seconds apart


@pytest.fixture
def kept(platform: Stack, sample: Path) -> Iterator[None]:
    """What must be the same before and after: champion, dataset, users, answers; and everything is whole."""
    before = state(platform, sample)
    yield
    platform.wait_until_whole(RECOVERS_WITHIN_S)
    assert eventually(lambda: state(platform, sample) == before, RECOVERS_WITHIN_S)


def state(platform: Stack, sample: Path) -> object:
    try:
        with platform.client(platform.admin_token()) as client:
            answer = predict_form(client, (sample / "exemple.jpg").read_bytes(), designation="Robot de piscine")
            return (
                client.get("/info").json()["version"],
                client.get("/datasets").json()["current"],
                client.get("/users").json(),
                answer.json()["predictions"],
            )
    except (httpx2.HTTPError, KeyError, ValueError) as error:  # a part is away: the caller asks again
        return repr(error)


def assert_it_comes_back(platform: Stack, killed: Container) -> None:
    def is_back() -> bool:
        (now,) = [one for one in platform.containers(killed.service) if one.id == killed.id]
        return now.restarts > killed.restarts and now.state == "running" and now.healthy

    assert eventually(is_back, RECOVERS_WITHIN_S), f"{killed.service} stayed away:\n{platform.logs(killed.service)}"


def test_each_container_survives_kill_9(platform: Stack, kept: None) -> None:
    for service in platform.lasting_services():
        container = platform.container(service)
        platform.kill(container)
        assert_it_comes_back(platform, container)


@pytest.mark.parametrize("service", EVERY_SERVICE)
def test_a_container_survives_running_out_of_memory(platform: Stack, kept: None, service: str) -> None:
    if service in platform.left_out:
        pytest.skip(f"the image of {service} is not to be had on this machine")
    container, began = platform.container(service), int(time.time())

    run_out_of_memory(platform, container)

    assert_it_comes_back(platform, container)
    said = platform.docker(
        *("events", "--since", str(began), "--until", str(int(time.time()) + 1)),
        *("--filter", f"container={container.id}", "--filter", "event=oom"),
    )
    assert said, "the container died of something else"


def run_out_of_memory(platform: Stack, container: Container) -> None:
    """Let a second process in the container take all it may; the kernel is told to end the first one for it."""
    Path(f"/proc/{container.pid}/oom_score_adj").write_text("1000")
    platform.docker("exec", "--detach", container.id, "sh", "-c", 'x=aaaaaaaa; while :; do x="$x$x"; done')


def test_a_training_goes_on_after_its_worker_was_killed(platform: Stack, kept: None) -> None:
    with platform.client(platform.admin_token()) as client:
        job_id = start_training(client, text="tfidf-svm", promote="never")
        for event in job_events(client, job_id):
            if event["status"] == "running" and event["stage"] not in (None, "plan"):
                break
        platform.kill(platform.container("train-worker"))
        time.sleep(1)
        job = finished_job(client, job_id)
    assert job["attempts"] == 2
