"""Containers that die: by kill -9, and because their memory ran out. Each comes back by itself, and nothing is lost."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import httpx2
import pytest

from tests.compose.stack import Container, Stack
from tests.e2e.api import finished_job, job_events, predict_form, start_training
from tests.waiting import eventually

pytestmark = [pytest.mark.compose, pytest.mark.timeout(1200)]

# Some at a time: each container still dies by itself, and the waiting for its return is shared.
TOGETHER = (
    ("nginx", "auth", "mlflow", "alertmanager"),
    ("gateway", "ingest", "s3", "prometheus"),
    ("train", "predict", "redis", "grafana"),
    ("train-worker", "postgres", "node-exporter", "cadvisor"),
)
RECOVERS_WITHIN_S = 60  # two busy cores, and health checks some seconds apart
KILLED = "137"  # exit status by SIGKILL, which only the kernel sends here
FILLS_WITHIN_S = 60  # train-worker's 6 GB, on cores that others use too


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


def assert_they_come_back(platform: Stack, killed: list[Container], within_s: float = RECOVERS_WITHIN_S) -> None:
    def away() -> list[str]:
        now = {one.id: one for one in platform.containers()}
        back = {
            one.id
            for one in killed
            if now[one.id].restarts > one.restarts and now[one.id].state == "running" and now[one.id].healthy
        }
        return [one.service for one in killed if one.id not in back]

    assert eventually(lambda: not away(), within_s), "".join(
        f"{service} stayed away:\n{platform.logs(service)}" for service in away()
    )


def those_here(platform: Stack, services: tuple[str, ...]) -> list[Container]:
    """Return the containers of these services, of those whose image is to be had; the summary names the others."""
    return [platform.container(service) for service in services if service not in platform.left_out]


def test_every_service_is_among_those_that_die(platform: Stack) -> None:
    assert {service for wave in TOGETHER for service in wave} >= set(platform.lasting_services())


@pytest.mark.parametrize("services", TOGETHER, ids=" ".join)
def test_containers_survive_kill_9(platform: Stack, kept: None, services: tuple[str, ...]) -> None:
    containers = those_here(platform, services)
    for container in containers:
        platform.kill(container)
    assert_they_come_back(platform, containers)


@pytest.mark.parametrize("services", TOGETHER, ids=" ".join)
def test_containers_survive_running_out_of_memory(platform: Stack, kept: None, services: tuple[str, ...]) -> None:
    containers, began = those_here(platform, services), int(time.time())
    for container in containers:
        run_out_of_memory(platform, container)

    assert_they_come_back(platform, containers, FILLS_WITHIN_S + RECOVERS_WITHIN_S)

    for container in containers:
        said = platform.docker(
            *("events", "--since", str(began), "--until", str(int(time.time()) + 1)),
            *("--filter", f"container={container.id}", "--filter", "event=die"),
            *("--format", "{{.Actor.Attributes.exitCode}}"),
        )
        # The engine's own `oom` event is lost when the container is gone before it is read.
        assert KILLED in said.split(), f"{container.service} died of something else: {said}"


def run_out_of_memory(platform: Stack, container: Container) -> None:
    """Let a second process in the container take all it may; the kernel is told to end the first one for it."""
    Path(f"/proc/{container.pid}/oom_score_adj").write_text("1000")
    platform.docker("exec", "--detach", container.id, "tail", "/dev/zero")  # one line without an end


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
