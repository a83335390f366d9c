"""Each answer is in the database a moment later, and leads back to what it came from; what a stop or a kill costs."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx2
import pytest

from tests.e2e.api import predict_form
from tests.e2e.platform import Platform, environment_without_settings
from tests.ports import free_ports
from tests.waiting import eventually

WRITTEN_WITHIN_S = 2.0
LOST_AT_MOST_S = 1.0
"""How much of the past a kill may cost."""
TITLE = "Pompe de piscine"


def logged(platform: Platform) -> dict[str, dict[str, Any]]:
    """Return the rows of the log by prediction id."""
    with contextlib.closing(sqlite3.connect(f"file:{platform.home}/data/rayonnage.db?mode=ro", uri=True)) as database:
        database.row_factory = sqlite3.Row
        return {row["prediction_id"]: dict(row) for row in database.execute("SELECT * FROM predictions")}


def lineage(platform: Platform, *arguments: str) -> str:
    """Return what `rayonnage lineage` prints in the platform's folder."""
    done = subprocess.run(
        [sys.executable, "-m", "rayonnage_shared.cli.main", "lineage", *arguments],
        cwd=platform.home,
        env=environment_without_settings(),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_an_answer_is_in_the_log_and_leads_back_to_code_and_products(platform: Platform, sample: Path) -> None:
    photo = (sample / "exemple.jpg").read_bytes()
    with platform.client(platform.admin_token()) as client:
        answer = predict_form(client, photo, designation=TITLE, product_identifier="sku-1")
        assert answer.status_code == 200, answer.text
        dataset = client.get("/datasets").json()["current"]
    said = answer.json()
    prediction_id = said["prediction_id"]
    assert eventually(lambda: prediction_id in logged(platform), WRITTEN_WITHIN_S)
    row = logged(platform)[prediction_id]
    assert (row["username"], row["request_id"]) == (platform.admin[0], answer.headers["x-request-id"])
    assert (row["designation"], row["product_identifier"], row["has_image"]) == (TITLE, "sku-1", 1)
    assert (row["category_id"], row["confidence"]) == (said["category_id"], said["confidence"])
    assert row["image_probability"] == said["modalities"]["image"]["probability"]

    tree = lineage(platform, prediction_id)
    manifest = json.loads((platform.home / "models" / said["model"]["version"] / "manifest.json").read_text())
    for part in (
        f"prediction {prediction_id}",
        f"for {platform.admin[0]}, request {row['request_id']}",
        f"model {said['model']['version']} – the champion",
        "there was no champion",
        f"dataset {dataset} – the demo catalogue",
        manifest["dataset"]["sha256"],
        f"code {manifest['code_version']}",
        f"numpy {manifest['libraries']['numpy']}",
    ):
        assert part in tree
    document = json.loads(lineage(platform, said["model"]["version"], "--json"))
    assert document["model"]["making"]["dataset"]["version"] == dataset
    assert said["model"]["version"] in json.loads(lineage(platform, dataset, "--json"))["trained"]


@dataclass
class Caller(threading.Thread):
    """Asks predict for one answer after the other until it is gone, and notes when each came."""

    url: str
    token: str
    answered: dict[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        super().__init__()

    __hash__ = threading.Thread.__hash__

    def run(self) -> None:
        headers = {"Authorization": f"Bearer {self.token}"}
        with (
            httpx2.Client(base_url=self.url, headers=headers, timeout=20) as client,
            contextlib.suppress(httpx2.HTTPError),
        ):
            while (answer := client.post("/predict", json={"designation": TITLE})).status_code == 200:
                self.answered[answer.json()["prediction_id"]] = time.monotonic()
                time.sleep(0.01)


@contextlib.contextmanager
def asking(platform: Platform, seconds: float) -> Iterator[Caller]:
    """Yield a caller that has been asking for so long; predict has to end in the block, and all is whole after it."""
    caller = Caller(platform.url("predict"), platform.admin_token())
    caller.start()
    assert eventually(lambda: caller.answered)
    time.sleep(seconds)
    try:
        yield caller
        caller.join(30)
        assert not caller.is_alive()
    finally:
        platform.wait_until_ready()


def test_a_stop_loses_nothing(platform: Platform) -> None:
    with asking(platform, seconds=1) as caller:
        platform.stop("predict")
        rows = logged(platform).keys()
        platform.start("predict")
    assert caller.answered.keys() <= rows


def test_a_kill_loses_the_last_second_at_most(platform: Platform) -> None:
    for _ in range(2):  # a machine that had other work in that moment gets one more try
        with asking(platform, seconds=2) as caller:
            killed_at = time.monotonic()
            platform.kill("predict")
        rows = logged(platform).keys()
        lost = [killed_at - answered_at for one, answered_at in caller.answered.items() if one not in rows]
        assert any(killed_at - answered_at > LOST_AT_MOST_S for answered_at in caller.answered.values())
        if max(lost, default=0) <= LOST_AT_MOST_S:
            return
    pytest.fail(f"answers of the last {max(lost):.2f} s were lost")


def test_predict_serves_while_its_database_is_away_from_the_start(platform: Platform) -> None:
    (port,) = free_ports(1)
    away = {"DATABASE_URL": "postgresql://nobody@127.0.0.1:9/rayonnage", "PREDICT_PORT": str(port)}
    away |= {"LOGS_PATH": "", "AUTH_URL": platform.url("auth")}
    url = f"http://127.0.0.1:{port}"
    command = [sys.executable, "-m", "rayonnage_predict"]
    with subprocess.Popen(
        command, cwd=platform.home, env={**environment_without_settings(), **away}, stdout=subprocess.PIPE
    ) as process:
        try:
            assert eventually(lambda: ready(url).get("status") == "degraded", 60)
            assert "not written" in ready(url)["dependencies"]["prediction_log"]
            headers = {"Authorization": f"Bearer {platform.admin_token()}"}
            answer = httpx2.post(f"{url}/predict", json={"designation": TITLE}, headers=headers, timeout=20)
            assert answer.status_code == 200, answer.text
            waiting = "rayonnage_prediction_log_waiting 1.0"
            assert eventually(lambda: waiting in httpx2.get(f"{url}/metrics").text, 10)
            stopped_at = time.monotonic()
        finally:
            os.kill(process.pid, signal.SIGTERM)
        output, _ = process.communicate(timeout=20)
        assert process.returncode == -signal.SIGTERM, "the way uvicorn ends when all went well"
        assert time.monotonic() - stopped_at < 10, "the stop takes no longer because of it"
    events = [json.loads(line) for line in output.splitlines()]
    told = [one["event"] for one in events if one["event"].startswith("prediction_log.")]
    assert told == ["prediction_log.database_away", "prediction_log.given_up"]


def ready(url: str) -> dict[str, Any]:
    """Return what `/health/ready` says, or nothing while nobody answers."""
    with contextlib.suppress(httpx2.HTTPError):
        document: dict[str, Any] = httpx2.get(f"{url}/health/ready", timeout=5).json()
        return document
    return {}
