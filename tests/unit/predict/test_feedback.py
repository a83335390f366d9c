"""The truth about predictions, over HTTP."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator
from pathlib import Path

import httpx2
import pytest
from sqlalchemy import Engine
from ulid import ULID

from rayonnage_predict import feedback
from rayonnage_predict.app import create_app
from rayonnage_predict.settings import PredictSettings
from rayonnage_shared.auth.dependencies import current_user
from rayonnage_shared.auth.tokens import Principal
from rayonnage_shared.feedback.repository import find_feedback, labelled_products, mark_ingested
from rayonnage_shared.ml.bundles.champion import Champion, write_champion
from rayonnage_shared.predictions.record import LoggedPrediction
from rayonnage_shared.predictions.repository import insert_predictions
from tests.unit.shared.ml.bundles.manifests import write_bundle
from tests.waiting import PATIENCE_S

pytestmark = pytest.mark.usefixtures("own_metrics")

REAL, DEMO, GONE = "20260202T000000Z-abcd", "20260101T000000Z-abcd", "20250101T000000Z-abcd"
NEW_CODE = 4321
WRITTEN_AFTER_S = 0.5
LONG_S = 10 * PATIENCE_S


@pytest.fixture
def models(tmp_path: Path) -> Path:
    """A champion that knows a code without a name, and a bundle that has learned from the demo catalogue."""
    folder = tmp_path / "models"
    for version, demo in ((REAL, False), (DEMO, True)):
        dataset = {"version": GONE, "sha256": "0" * 64, "demo": demo}
        write_bundle(folder, version, dataset=dataset, categories={"codes": [NEW_CODE], "labels": {}})
    write_champion(folder, Champion.promoted(REAL, "jane", "ok"))
    return folder


@contextlib.asynccontextmanager
async def application(models: Path, database_url: str) -> AsyncIterator[httpx2.AsyncClient]:
    app = create_app(PredictSettings(_env_file=None, models_path=models, database_url=database_url))
    app.dependency_overrides[current_user] = lambda: Principal("claire", "user", "t1", 0.0, 0.0)
    async with httpx2.AsyncClient(transport=httpx2.ASGITransport(app), base_url="http://predict") as opened:
        yield opened
    app.state.predict.feedback.close()


@pytest.fixture
async def client(models: Path, engine: Engine, database_url: str) -> AsyncIterator[httpx2.AsyncClient]:
    async with application(models, database_url) as opened:
        yield opened


def predicted(engine: Engine, *, version: str = REAL, prediction_id: str | None = None) -> str:
    """Write a prediction of 10 and return its id."""
    said = (10, 0.9, "accept", 10, 0.9, None, None, 1.0)
    one = prediction_id or str(ULID())
    row = LoggedPrediction(one, time.time(), version, "jane", "r", "Piscine", None, None, False, None, *said)
    insert_predictions(engine, [row])
    return one


async def say(client: httpx2.AsyncClient, prediction_id: str, category_id: object) -> httpx2.Response:
    return await client.post("/feedback", json={"prediction_id": prediction_id, "category_id": category_id})


async def test_the_first_word_is_created_and_the_next_replaces_it(client: httpx2.AsyncClient, engine: Engine) -> None:
    one = predicted(engine)

    first, second = await say(client, one, 2583), await say(client, one, 10)

    assert (first.status_code, second.status_code) == (201, 200), first.text
    said = {"prediction_id": one, "category_id": 2583, "predicted": "10", "correct": False, "given_by": "claire"}
    assert {name: first.json()[name] for name in said} == said
    assert second.json()["correct"] is True
    found = find_feedback(engine, one)
    assert found is not None
    assert (found.category_id, found.username, found.demo) == (10, "claire", False)
    assert second.json()["given_at"] == found.created_at.isoformat().replace("+00:00", "Z")


async def test_another_truth_is_to_be_learned_anew_and_the_same_is_not(
    client: httpx2.AsyncClient, engine: Engine
) -> None:
    one = predicted(engine)
    await say(client, one, 2583)
    mark_ingested(engine, labelled_products(engine, demo=False, limit=9), "20260303T000000Z-abcd")
    await say(client, one, 2583)
    assert not labelled_products(engine, demo=False, limit=9)
    await say(client, one, 10)
    assert [product.truth for product in labelled_products(engine, demo=False, limit=9)] == [10]


async def test_feedback_on_demo_models_is_marked_and_on_removed_models_too(
    client: httpx2.AsyncClient, engine: Engine
) -> None:
    for version in (DEMO, GONE):
        one = predicted(engine, version=version)
        assert (await say(client, one, 2583)).status_code == 201
        found = find_feedback(engine, one)
        assert found is not None and found.demo


async def test_a_code_that_has_no_name_is_good_when_the_champion_knows_it(
    client: httpx2.AsyncClient, engine: Engine
) -> None:
    one = predicted(engine)
    assert (await say(client, one, NEW_CODE)).status_code == 201
    answer = await say(client, one, NEW_CODE + 1)
    assert (answer.status_code, answer.json()["code"]) == (422, "unknown_category")
    assert answer.headers["content-type"] == "application/problem+json"


async def test_an_old_prediction_that_is_not_there_is_unknown_at_once(
    client: httpx2.AsyncClient, engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(feedback, "WAIT_FOR_PREDICTION_S", LONG_S)
    answer = await asyncio.wait_for(say(client, str(ULID.from_timestamp(time.time() - 60)), 10), PATIENCE_S)
    assert (answer.status_code, answer.json()["code"]) == (404, "prediction_unknown")
    assert "PREDICTION_LOG_DAYS, 90 days" in answer.json()["detail"]


async def test_a_prediction_that_is_still_on_its_way_is_waited_for(
    client: httpx2.AsyncClient, engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(feedback, "WAIT_FOR_PREDICTION_S", LONG_S)
    monkeypatch.setattr(feedback, "YOUNG_S", LONG_S)
    one = str(ULID())
    waiting = asyncio.create_task(say(client, one, 2583))
    await asyncio.sleep(WRITTEN_AFTER_S)
    assert not waiting.done()
    await asyncio.to_thread(predicted, engine, prediction_id=one)
    assert (await waiting).status_code == 201


async def test_a_young_prediction_that_never_comes_is_unknown_after_a_while(
    client: httpx2.AsyncClient, engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(feedback, "WAIT_FOR_PREDICTION_S", 0.5)
    monkeypatch.setattr(feedback, "YOUNG_S", LONG_S)
    started = time.monotonic()
    answer = await say(client, str(ULID()), 2583)
    assert answer.status_code == 404
    assert time.monotonic() - started > 0.2, "it was waited for"


@pytest.mark.parametrize(
    "body",
    [
        {},
        {"prediction_id": str(ULID())},
        {"category_id": 10},
        {"prediction_id": "short", "category_id": 10},
        {"prediction_id": "8" + "0" * 25, "category_id": 10},
        {"prediction_id": str(ULID()), "category_id": "ten"},
        {"prediction_id": str(ULID()), "category_id": 10.5},
        {"prediction_id": str(ULID()), "category_id": -1},
        {"prediction_id": str(ULID()), "category_id": 10**30},
        {"prediction_id": str(ULID()), "category_id": 10, "username": "somebody else"},
    ],
)
async def test_other_bodies_are_refused(client: httpx2.AsyncClient, body: dict[str, object]) -> None:
    answer = await client.post("/feedback", json=body)
    assert answer.status_code == 422
    assert answer.headers["content-type"] == "application/problem+json"


async def test_while_the_database_is_down_the_answer_has_retry_after(models: Path) -> None:
    async with application(models, "postgresql://nobody@127.0.0.1:9/rayonnage") as client:
        answer = await say(client, str(ULID()), 10)
        assert (answer.status_code, answer.headers["retry-after"]) == (503, "2")
        assert answer.json()["code"] == "dependency_unavailable"
        assert (await client.get("/info")).status_code == 200
