"""Each answer is in the database a moment later, and leads back to what it came from; what a stop or a kill costs."""

from __future__ import annotations

import contextlib
import json
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

from tests.e2e.api import predict_form
from tests.e2e.command_line import rayonnage
from tests.e2e.platform import Platform, environment_without_settings
from tests.ports import free_ports
from tests.processes import killed_at_end
from tests.waiting import PATIENCE_S, eventually

TITLE = "Pompe de piscine"


def logged(platform: Platform) -> dict[str, dict[str, Any]]:
    """Return the rows of the log by prediction id."""
    with contextlib.closing(sqlite3.connect(f"file:{platform.home}/data/rayonnage.db?mode=ro", uri=True)) as database:
        database.row_factory = sqlite3.Row
        return {row["prediction_id"]: dict(row) for row in database.execute("SELECT * FROM predictions")}


def lineage(platform: Platform, *arguments: str) -> str:
    """Return what `rayonnage lineage` prints in the platform's folder."""
    done = rayonnage(platform.home, "lineage", *arguments)
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
    assert eventually(lambda: prediction_id in logged(platform))
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
    assert document["model"]["provenance"]["dataset"]["version"] == dataset
    assert said["model"]["version"] in json.loads(lineage(platform, dataset, "--json"))["trained"]


@dataclass
class Caller(threading.Thread):
    """Asks predict for one answer after the other until it is gone, and notes each."""

    url: str
    token: str
    answered: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        super().__init__()

    __hash__ = threading.Thread.__hash__

    def run(self) -> None:
        headers = {"Authorization": f"Bearer {self.token}"}
        with (
            httpx2.Client(base_url=self.url, headers=headers, timeout=PATIENCE_S) as client,
            contextlib.suppress(httpx2.HTTPError),
        ):
            while (answer := client.post("/predict", json={"designation": TITLE})).status_code == 200:
                self.answered.append(answer.json()["prediction_id"])
                time.sleep(0.01)


@contextlib.contextmanager
def asking(platform: Platform) -> Iterator[Caller]:
    """Yield a caller of whom some rows are written; predict has to end in the block, and all is whole after it."""
    caller = Caller(platform.url("predict"), platform.admin_token())
    caller.start()
    assert eventually(lambda: logged(platform).keys() & {*caller.answered})
    try:
        yield caller
        caller.join(PATIENCE_S)
        assert not caller.is_alive()
    finally:
        platform.wait_until_ready()


def test_a_stop_loses_nothing(platform: Platform) -> None:
    with asking(platform) as caller:
        platform.stop("predict")
        rows = logged(platform).keys()
        platform.start("predict")
    assert {*caller.answered} <= rows


def test_a_kill_loses_the_newest_answers_alone(platform: Platform) -> None:
    """They are those since the last write, which comes every half a second (`FLUSH_EVERY_S`)."""
    with asking(platform) as caller:
        answered, written = list(caller.answered), logged(platform).keys()
        platform.kill("predict")
    rows = logged(platform).keys()
    assert {*answered} & written <= rows, "what was written stays"
    kept = [one in rows for one in caller.answered]
    assert kept == sorted(kept, reverse=True), "nothing is missing before the newest"


def test_predict_serves_while_its_database_is_away_from_the_start(platform: Platform) -> None:
    (port,) = free_ports(1)
    away = {"DATABASE_URL": "postgresql://nobody@127.0.0.1:9/rayonnage", "PREDICT_PORT": str(port)}
    away |= {"LOGS_PATH": "", "AUTH_URL": platform.url("auth")}
    url = f"http://127.0.0.1:{port}"
    command = [sys.executable, "-m", "rayonnage_predict"]
    environment = {**environment_without_settings(), **away}
    with killed_at_end(
        subprocess.Popen(command, cwd=platform.home, env=environment, stdout=subprocess.PIPE)
    ) as process:
        assert eventually(lambda: ready(url).get("status") == "degraded")
        assert "not written" in ready(url)["dependencies"]["prediction_log"]
        headers = {"Authorization": f"Bearer {platform.admin_token()}"}
        answer = httpx2.post(f"{url}/predict", json={"designation": TITLE}, headers=headers, timeout=PATIENCE_S)
        assert answer.status_code == 200, answer.text
        waiting = "rayonnage_prediction_log_waiting 1.0"
        assert eventually(lambda: waiting in httpx2.get(f"{url}/metrics", timeout=PATIENCE_S).text)
        process.terminate()
        output, _ = process.communicate(timeout=PATIENCE_S)
        assert process.returncode == -signal.SIGTERM, "the way uvicorn ends when all went well"
    events = [json.loads(line) for line in output.splitlines()]
    told = [one["event"] for one in events if one["event"].startswith("prediction_log.")]
    assert told == ["prediction_log.write_failed", "prediction_log.rows_dropped"]


def ready(url: str) -> dict[str, Any]:
    """Return what `/health/ready` says, or nothing while nobody answers."""
    with contextlib.suppress(httpx2.HTTPError):
        document: dict[str, Any] = httpx2.get(f"{url}/health/ready", timeout=PATIENCE_S).json()
        return document
    return {}
