"""Retrain the model: request a training from the gateway, wait for it, and report whether its model was promoted.

The DAG logs in as a user with the role `admin`. The platform itself trains, evaluates and promotes.
"""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Generator
from datetime import timedelta
from pathlib import Path
from typing import Any

import httpx
from airflow.sdk import Param, dag, task
from airflow.sdk.exceptions import AirflowFailException

GATEWAY = os.environ.get("GATEWAY_URL", "http://gateway:8000")
PASSWORD = Path("/run/secrets/retrain_password")
SCHEDULE = os.environ.get("RETRAIN_SCHEDULE") or None
TIMEOUT = timedelta(minutes=float(os.environ.get("RETRAIN_TIMEOUT_MINUTES") or 360))
POLL_S = 5

log = logging.getLogger(__name__)


class Login(httpx.Auth):
    """Logs in before the first request, and again when the token has expired."""

    requires_response_body = True

    def __init__(self) -> None:
        self._token: str | None = None

    def auth_flow(self, request: httpx.Request) -> Generator[httpx.Request, httpx.Response, None]:
        """Send the request with a valid token."""
        for _ in range(2):
            if self._token is None:
                self._token = checked((yield self._login())).json()["access_token"]
            request.headers["Authorization"] = f"Bearer {self._token}"
            answer = yield request
            if answer.status_code != 401:
                return
            self._token = None

    def _login(self) -> httpx.Request:
        name, password = os.environ.get("RETRAIN_USERNAME", "admin"), PASSWORD.read_text(encoding="utf-8").strip()
        return httpx.Request("POST", f"{GATEWAY}/token", data={"username": name, "password": password})


def gateway() -> httpx.Client:
    """Return a client for the gateway; use it in a `with` statement."""
    return httpx.Client(base_url=GATEWAY, auth=Login(), timeout=30)


def checked(answer: httpx.Response) -> httpx.Response:
    """Return the response if it is a success. Raises AirflowFailException, which is not retried, for a client error."""
    if answer.is_client_error:
        raise AirflowFailException(f"{answer.request.url} returned {answer.status_code}: {answer.text}")
    return answer.raise_for_status()


@dag(
    schedule=SCHEDULE,  # without a start date, so that past intervals are not run
    catchup=False,
    max_active_runs=1,
    dagrun_timeout=TIMEOUT,
    tags=["rayonnage"],
    params={"training": Param({}, type="object", description="The body of POST /train: families, promote, …")},
    doc_md=__doc__,
)
def rayonnage_retrain() -> None:
    """Start a training, wait for it, and finish with the task `promoted` or `not_promoted`."""

    @task  # never retried: the job may have started although the response was lost
    def start(params: dict[str, Any] | None = None) -> str:
        with gateway() as client:
            job = checked(client.post("/train", json=(params or {})["training"])).json()
        log.info("Job %s is %s", job["job_id"], job["status"])
        return str(job["job_id"])

    @task(retries=5, retry_delay=timedelta(seconds=30), execution_timeout=TIMEOUT, multiple_outputs=False)
    def wait(job_id: str) -> dict[str, Any]:
        said = None
        with gateway() as client:
            while True:
                job = checked(client.get(f"/train/jobs/{job_id}")).json()
                if job["stage"] != said:
                    said = job["stage"]
                    log.info("Job %s is %s: %s", job_id, job["status"], said)
                if job["status"] == "succeeded":
                    result: dict[str, Any] = job["result"]
                    return result
                if job["status"] not in {"queued", "running"}:
                    raise AirflowFailException(f"Job {job_id} is {job['status']}: {job['error']}")
                time.sleep(POLL_S)

    @task.branch
    def gate(result: dict[str, Any]) -> str:
        return "promoted" if result["promoted"] else "not_promoted"

    @task
    def promoted(result: dict[str, Any]) -> str:
        return report("is the champion", result)

    @task
    def not_promoted(result: dict[str, Any]) -> str:
        return report("was not promoted", result)

    result = wait(start())
    gate(result) >> [promoted(result), not_promoted(result)]


def report(outcome: str, result: dict[str, Any]) -> str:
    """Log and return the outcome of a training."""
    sentence = f"{result['version']} {outcome}: {result['reason']}"
    log.info(sentence)
    return sentence


rayonnage_retrain()
