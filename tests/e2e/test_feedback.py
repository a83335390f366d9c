"""What users say about predictions: taken at once, learned by the next dataset version, kept longer than the rest."""

from __future__ import annotations

import contextlib
import sqlite3
import time
from collections.abc import Iterator

import httpx2
import pytest
from pyarrow import parquet

from tests.e2e.api import add_user, problem
from tests.e2e.conftest import MakePlatform
from tests.e2e.documents import documented, validated
from tests.e2e.platform import Platform
from tests.waiting import eventually

KEPT_S = 3.0
TITLE = "Balançoire en bois pour le jardin de ma grand-mère"
TRUTH, OTHER_TRUTH = 1302, 2583


@pytest.fixture
def platform(make_platform: MakePlatform) -> Platform:
    """A platform that forgets predictions after some seconds, when predict starts."""
    return make_platform({"PREDICTION_LOG_DAYS": f"{KEPT_S / 86400:.7f}", "FEEDBACK_INGEST_EVERY_H": "0"})


def rows(platform: Platform, table: str) -> set[str]:
    """Return the prediction ids in a table."""
    with contextlib.closing(sqlite3.connect(f"file:{platform.home}/data/rayonnage.db?mode=ro", uri=True)) as database:
        return {row[0] for row in database.execute(f"SELECT prediction_id FROM {table}")}


def learned(platform: Platform, version: str) -> dict[str, int]:
    """Return the codes of a dataset version by title."""
    table = parquet.read_table(platform.home / "data" / "datasets" / version / "products.parquet")
    return dict(zip(table["designation"].to_pylist(), table["prdtypecode"].to_pylist(), strict=True))


def predicted(client: httpx2.Client, designation: str = TITLE) -> str:
    answer = client.post("/predict", json={"designation": designation})
    assert answer.status_code == 200, answer.text
    return str(answer.json()["prediction_id"])


def say(client: httpx2.Client, prediction_id: str, category_id: int) -> httpx2.Response:
    return client.post("/feedback", json={"prediction_id": prediction_id, "category_id": category_id})


@contextlib.contextmanager
def client_of(platform: Platform) -> Iterator[httpx2.Client]:
    with validated(platform.client(platform.admin_token()), documented(platform)) as client:
        yield client


def test_from_a_prediction_to_the_next_dataset_and_to_the_end_of_its_keeping(platform: Platform) -> None:
    with client_of(platform) as admin:
        before = admin.get("/datasets").json()["current"]
        add_user(admin, "ada", "a-long-password")
        with platform.client(platform.token("ada", "a-long-password")) as user:
            judged = predicted(user)
            first = say(user, judged, OTHER_TRUTH)  # with no pause: the row may not even be written yet
            assert first.status_code == 201, first.text
            assert (first.json()["given_by"], first.json()["prediction_id"]) == ("ada", judged)
        assert say(admin, judged, TRUTH).status_code == 200
        for _ in range(5):
            assert say(admin, predicted(admin), TRUTH).status_code == 201
        problem(say(admin, "01ARZ3NDEKTSV4RRFFQ69G5FAV", TRUTH), 404, "prediction_unknown")
        problem(say(admin, judged, 1), 422, "unknown_category")
        problem(say(admin, "nonsense", TRUTH), 422, "invalid_input")

        report = admin.post("/ingest", files={"from_feedback": (None, "true")})
        assert report.status_code == 201, report.text
        version = report.json()["dataset_version"]
        assert (report.json()["rows_total"], report.json()["rows_added"]) == (6, 1), "six words about one product"
        assert admin.get(f"/datasets/{version}").json()["parent"] == before
        assert learned(platform, version) == learned(platform, before) | {TITLE: TRUTH}
        again = admin.post("/ingest", files={"from_feedback": (None, "true")})
        assert (again.status_code, again.json()["rows_total"], again.json()["dataset_version"]) == (200, 0, version)

        silent = predicted(admin, "Pompe de piscine")
        assert eventually(lambda: silent in rows(platform, "predictions"))
        time.sleep(KEPT_S)
        platform.stop("predict")
        platform.start("predict")
        platform.wait_until_ready()
        assert eventually(lambda: silent not in rows(platform, "predictions"))
        assert rows(platform, "predictions") == rows(platform, "feedback")
        assert judged in rows(platform, "feedback")


def test_feedback_is_learned_without_anybody_asking(make_platform: MakePlatform) -> None:
    platform = make_platform({"FEEDBACK_INGEST_EVERY_H": f"{2 / 3600:.6f}"})
    with client_of(platform) as client:
        before = client.get("/datasets").json()["current"]
        assert say(client, predicted(client), TRUTH).status_code == 201
        assert eventually(lambda: client.get("/datasets").json()["current"] != before)
        version = client.get("/datasets").json()["current"]
    assert learned(platform, version)[TITLE] == TRUTH
