"""Airflow beside the containers: its DAG asks the gateway for a training, waits, and ends as the gate has decided."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import httpx2
import pytest

from tests.compose.stack import BUILD_S, CHECKOUT, CommandFailed, Stack, run
from tests.e2e.api import TRAINED_WITHIN_S
from tests.waiting import PATIENCE_S, eventually

pytestmark = [pytest.mark.profiles, pytest.mark.timeout(1800)]

DAG = "/api/v2/dags/rayonnage_retrain"
READY_S = 400
RUN_S = TRAINED_WITHIN_S + 100  # Airflow takes seconds from one task to the next


@dataclass(frozen=True)
class Run:
    """A run of the DAG that has ended."""

    client: httpx2.Client
    path: str
    state: str

    def tasks(self) -> dict[str, str]:
        """Return how each task ended."""
        found = self.client.get(f"{self.path}/taskInstances").raise_for_status().json()["task_instances"]
        return {one["task_id"]: one["state"] for one in found}

    def returned(self, task: str) -> Any:
        """Return what a task has returned."""
        path = f"{self.path}/taskInstances/{task}/xcomEntries/return_value"
        return self.client.get(path).raise_for_status().json()["value"]

    def log(self, task: str) -> str:
        """Return the log of a task's first try."""
        return self.client.get(f"{self.path}/taskInstances/{task}/logs/1").raise_for_status().text


@pytest.fixture(scope="module")
def airflow(platform: Stack) -> Iterator[httpx2.Client]:
    """Airflow's API, logged in, after `make init-airflow` and `make start`; afterwards the stack is without Airflow."""
    parts = ("airflow", "airflow-database")
    try:
        platform.make("init-airflow", within_s=BUILD_S)
        assert platform.rows("SELECT datname FROM pg_database WHERE datname = 'airflow'")
        assert not platform.containers("airflow")
        try:
            said = platform.make("start", within_s=READY_S + BUILD_S)
        except CommandFailed as error:
            raise CommandFailed(f"{error}\n{platform.logs(*parts)}") from error
        assert f"http://127.0.0.1:{platform.values['AIRFLOW_PORT']}, user admin" in said
        with httpx2.Client(
            base_url=f"http://127.0.0.1:{platform.values['AIRFLOW_PORT']}", timeout=PATIENCE_S
        ) as client:
            password = (platform.folder / ".secrets" / "airflow_admin_password").read_text(encoding="utf-8").strip()
            answer = client.post("/auth/token", json={"username": "admin", "password": password}).raise_for_status()
            client.headers["Authorization"] = f"Bearer {answer.json()['access_token']}"
            assert eventually(lambda: client.get(DAG).status_code == 200, 120, every_s=1), platform.logs("airflow")
            yield client
    finally:
        platform.compose("--profile", "airflow", "rm", "--stop", "--force", *parts)
        volume = f"{platform.values['COMPOSE_PROJECT_NAME']}_airflow"
        platform.docker("volume", "rm", "--force", volume)
        drop = "DROP DATABASE IF EXISTS airflow WITH (FORCE)"
        platform.compose("exec", "-T", "postgres", "psql", "-q", "-U", "rayonnage", "-d", "rayonnage", "-c", drop)


def retrain(airflow: httpx2.Client, **training: Any) -> Run:
    """Trigger the DAG and return its run as it ended."""
    started = airflow.post(f"{DAG}/dagRuns", json={"logical_date": None, "conf": {"training": training}})
    path = f"{DAG}/dagRuns/{started.raise_for_status().json()['dag_run_id']}"

    def state() -> str:
        return str(airflow.get(path).raise_for_status().json()["state"])

    assert eventually(lambda: state() in {"success", "failed"}, RUN_S, every_s=1), state()
    return Run(airflow, path, state())


def test_the_dag_stands_as_it_is_written_and_has_no_schedule(airflow: httpx2.Client) -> None:
    assert airflow.get("/api/v2/importErrors").json()["import_errors"] == []
    assert [one["dag_id"] for one in airflow.get("/api/v2/dags").json()["dags"]] == ["rayonnage_retrain"]
    dag = airflow.get(DAG).json()
    assert (dag["is_paused"], dag["timetable_summary"]) == (False, None)
    tasks = {one["task_id"]: set(one["downstream_task_ids"]) for one in airflow.get(f"{DAG}/tasks").json()["tasks"]}
    assert set(tasks) == {"start", "wait", "gate", "promoted", "not_promoted"}
    assert tasks["start"] == {"wait"}
    assert tasks["gate"] == {"promoted", "not_promoted"}


@pytest.mark.parametrize(("promote", "outcome"), [("always", "promoted"), ("never", "not_promoted")])
def test_a_run_trains_and_says_what_the_gate_has_decided(
    airflow: httpx2.Client, platform: Stack, promote: str, outcome: str
) -> None:
    ended = retrain(airflow, text="tfidf-svm", image=None, promote=promote)

    other = {"promoted": "not_promoted", "not_promoted": "promoted"}[outcome]
    assert ended.state == "success", ended.log("wait")
    assert ended.tasks() == {**dict.fromkeys(("start", "wait", "gate", outcome), "success"), other: "skipped"}
    with platform.client(platform.admin_token()) as client:
        jobs = {job["job_id"]: job for job in client.get("/train/jobs").json()["jobs"]}
        champion = client.get("/info").json()["version"]
    job = jobs[ended.returned("start")]
    result = job["result"]
    assert (job["status"], job["submitted_by"]) == ("succeeded", platform.admin[0])
    assert (result["promoted"], champion == result["version"]) == (outcome == "promoted", outcome == "promoted")
    assert ended.returned(outcome).startswith(result["version"])
    assert ended.returned(outcome).endswith(result["reason"])


def test_what_the_platform_refuses_fails_the_run_and_its_log_says_why(airflow: httpx2.Client) -> None:
    ended = retrain(airflow, text="no-such-family")
    assert ended.state == "failed"
    assert "there is no text family of this name" in ended.log("start")


def test_a_part_that_is_killed_comes_back(airflow: httpx2.Client, platform: Stack) -> None:
    before = platform.container("airflow")
    kill = "import psutil; [one.kill() for one in psutil.process_iter() if one.cmdline()[-1:] == ['scheduler']]"
    platform.compose("--profile", "airflow", "exec", "-T", "airflow", "python", "-c", kill)

    def restarted() -> bool:
        now = platform.container("airflow")
        return now.restarts > before.restarts and now.healthy and now.state == "running"

    assert eventually(restarted, READY_S, every_s=1), platform.logs("airflow")


def test_it_answers_nobody_who_has_not_logged_in(airflow: httpx2.Client, platform: Stack) -> None:
    assert httpx2.get(f"{airflow.base_url}{DAG}", timeout=PATIENCE_S).status_code == 401
    published = platform.docker("port", platform.container("airflow").id).split()
    assert [part for part in published if ":" in part] == [f"127.0.0.1:{platform.values['AIRFLOW_PORT']}"]


def test_its_image_holds_nothing_that_must_not_be_there(airflow: httpx2.Client) -> None:
    run([sys.executable, "deployments/images/scan.py", "rayonnage/airflow:latest"], cwd=CHECKOUT, within_s=600)
