"""What predict tells of model versions, from bundles of today and of before."""

from __future__ import annotations

import hashlib
import json
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx2
import pytest
from fastapi import FastAPI

from rayonnage_predict import champion
from rayonnage_predict.app import create_app
from rayonnage_predict.routes import PredictState
from rayonnage_predict.settings import PredictSettings
from rayonnage_shared.auth.dependencies import current_user
from rayonnage_shared.auth.tokens import Principal
from rayonnage_shared.ml.base.categories import Categories
from rayonnage_shared.ml.bundles.champion import Champion, write_champion
from rayonnage_shared.ml.evaluation.report import write_report
from tests.unit.shared.ml.bundles.manifests import write_bundle
from tests.unit.shared.ml.evaluation.reports import some_report
from tests.unit.shared.predictions.bundles import fake_bundle

pytestmark = pytest.mark.usefixtures("own_metrics")

TODAY, BROKEN, BEFORE = "20260202T000000Z-abcd", "20260201T000000Z-abcd", "20260101T000000Z-abcd"
OTHER_FORMAT = '{"format": 2, "dataset": {"version": "20251231T000000Z-0000"}}'
PICTURE = b"\x89PNG\r\n\x1a\n and so on"


@pytest.fixture
def models(tmp_path: Path) -> Path:
    """A volume with a bundle that has a report and a picture, and one from before there were any."""
    today, before = tmp_path / TODAY, tmp_path / BEFORE
    (today / "figures").mkdir(parents=True)
    (today / "figures" / "confusion.png").write_bytes(PICTURE)
    write_report(today, some_report()[0])
    files = {"figures/confusion.png": hashlib.sha256(PICTURE).hexdigest(), "text/linear.npz": "0"}
    write_bundle(tmp_path, TODAY, files=files)
    before.mkdir()
    (before / "evaluation.json").write_text(json.dumps({"rows": 5, "accuracy": 0.8, "confusion": []}))
    write_bundle(tmp_path, BEFORE, files={"evaluation.json": "0"})
    return tmp_path


@pytest.fixture
def app(models: Path) -> FastAPI:
    return create_app(PredictSettings(_env_file=None, models_path=models))


@pytest.fixture
def state(app: FastAPI) -> PredictState:
    found: PredictState = app.state.predict
    return found


@pytest.fixture
async def client(app: FastAPI) -> AsyncIterator[httpx2.AsyncClient]:
    app.dependency_overrides[current_user] = lambda: Principal("claire", "user", "t1", 0.0, 0.0)
    async with httpx2.AsyncClient(transport=httpx2.ASGITransport(app), base_url="http://predict") as opened:
        yield opened


async def test_a_model_comes_with_its_report_and_where_its_pictures_are(client: httpx2.AsyncClient) -> None:
    answer = await client.get(f"/models/{TODAY}")

    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    assert found["evaluation"] == some_report()[0].model_dump(mode="json")
    assert found["figures"] == {"confusion": f"/models/{TODAY}/figures/confusion.png"}
    assert found["manifest"]["version"] == TODAY


async def test_a_model_from_before_is_described_without_them(client: httpx2.AsyncClient) -> None:
    found = (await client.get(f"/models/{BEFORE}")).json()

    assert (found["version"], found["evaluation"], found["figures"]) == (BEFORE, None, {})


async def test_the_list_of_models_stays_light(client: httpx2.AsyncClient) -> None:
    listed = (await client.get("/models")).json()["models"]

    assert [one["version"] for one in listed] == [TODAY, BEFORE]
    assert not {"evaluation", "manifest", "figures"} & set(listed[0])


async def test_a_picture_is_fetched_once_and_then_known(client: httpx2.AsyncClient) -> None:
    address = f"/models/{TODAY}/figures/confusion.png"

    first = await client.get(address)
    again = await client.get(address, headers={"If-None-Match": first.headers["etag"]})
    other = await client.get(address, headers={"If-None-Match": '"another"'})

    assert (first.status_code, first.content, first.headers["content-type"]) == (200, PICTURE, "image/png")
    assert first.headers["cache-control"] == "private, max-age=31536000, immutable"
    assert (again.status_code, again.content, again.headers["etag"]) == (304, b"", first.headers["etag"])
    assert (other.status_code, other.content) == (200, PICTURE)


@pytest.mark.parametrize(
    ("address", "status", "code"),
    [
        (f"/models/{TODAY}/figures/selective.png", 404, "figure_not_found"),
        (f"/models/{BEFORE}/figures/confusion.png", 404, "figure_not_found"),
        ("/models/20260303T000000Z-abcd/figures/confusion.png", 404, "model_not_found"),
        ("/models/latest/figures/confusion.png", 404, "model_not_found"),
        (f"/models/{TODAY}/figures/..%5Cmanifest.png", 422, "invalid_input"),
        (f"/models/{TODAY}/figures/Confusion.png", 422, "invalid_input"),
    ],
)
async def test_what_is_no_picture_is_a_problem(
    client: httpx2.AsyncClient, address: str, status: int, code: str
) -> None:
    answer = await client.get(address)

    assert (answer.status_code, answer.json()["code"]) == (status, code)


def promoted(models: Path, version: str) -> None:
    write_champion(models, Champion.promoted(version, "jane", "better"))


def add_broken(models: Path, content: str = OTHER_FORMAT) -> None:
    (models / BROKEN).mkdir()
    (models / BROKEN / "manifest.json").write_text(content)


@pytest.mark.parametrize(("content", "dataset"), [(OTHER_FORMAT, "20251231T000000Z-0000"), ("{", ""), ("[]", "")])
async def test_a_broken_bundle_is_listed_as_such_beside_the_others(
    models: Path, client: httpx2.AsyncClient, content: str, dataset: str
) -> None:
    add_broken(models, content)

    answer = await client.get("/models")

    assert answer.status_code == 200, answer.text
    today, broken, before = answer.json()["models"]
    assert (today["version"], today["broken"], before["broken"]) == (TODAY, None, None)
    assert (broken["version"], broken["created_at"], broken["champion"]) == (BROKEN, "2026-02-01T00:00:00Z", False)
    assert (broken["families"], broken["metrics"]) == ({"text": None, "image": None, "fusion": None}, {})
    assert broken["dataset_version"] == dataset
    assert broken["broken"].startswith(f"Bundle {BROKEN} has ")


async def test_a_manifest_that_is_damaged_later_is_noticed(models: Path, client: httpx2.AsyncClient) -> None:
    await client.get("/models")
    (models / TODAY / "manifest.json").write_text("{")
    assert (await client.get("/models")).json()["models"][0]["broken"]


async def test_a_broken_bundle_itself_is_a_problem_that_says_why(models: Path, client: httpx2.AsyncClient) -> None:
    add_broken(models)

    for address in (f"/models/{BROKEN}", f"/models/{BROKEN}/figures/confusion.png"):
        answer = await client.get(address)

        assert (answer.status_code, answer.json()["code"]) == (500, "bundle_broken")
        assert answer.headers["content-type"] == "application/problem+json"
        assert answer.json()["detail"] == f"Bundle {BROKEN} has a manifest of format 2; this code reads format 1."


async def test_info_names_the_champion_and_its_metrics(
    models: Path, client: httpx2.AsyncClient, state: PredictState, monkeypatch: pytest.MonkeyPatch
) -> None:
    promoted(models, TODAY)
    monkeypatch.setattr(champion, "load_bundle", lambda _folder, version: fake_bundle(version))
    await state.champion.refresh()

    found = (await client.get("/info")).json()

    assert (found["ready"], found["version"], found["metrics"]["accuracy"]) == (True, TODAY, 0.9)
    assert (found["trained_on"], found["broken"]) == ("20261120T081500Z-aaaa", None)


@pytest.mark.parametrize("content", ["garbage{", "", "[]", "null", f'{{"version": "{TODAY}"}}'])
async def test_a_broken_champion_pointer_is_named(models: Path, client: httpx2.AsyncClient, content: str) -> None:
    (models / "champion.json").write_text(content)

    info, listed, one = [await client.get(path) for path in ("/info", "/models", f"/models/{TODAY}")]

    assert [answer.status_code for answer in (info, listed, one)] == [200, 200, 200]
    for found in (info.json(), listed.json()):
        assert found["broken"].startswith("champion.json ")
    assert (info.json()["ready"], info.json()["version"], listed.json()["champion"]) == (False, None, None)
    assert [model["version"] for model in listed.json()["models"]] == [TODAY, BEFORE]


@pytest.mark.parametrize(("version", "words"), [(BROKEN, "format 2"), ("20260303T000000Z-abcd", "There is no model")])
async def test_a_champion_whose_bundle_is_broken_or_gone_is_named(
    models: Path, client: httpx2.AsyncClient, version: str, words: str
) -> None:
    add_broken(models)
    promoted(models, version)

    found = (await client.get("/info")).json()

    assert (found["ready"], found["version"]) == (False, version)
    assert words in found["broken"]


async def test_the_categories_are_listed_before_there_is_a_model(
    client: httpx2.AsyncClient, state: PredictState
) -> None:
    listed = (await client.get("/categories")).json()["categories"]
    assert len(listed) == 27
    assert [one["category_id"] for one in listed] == sorted(state.categories.codes)
    assert {"category_id": 2583, "label": state.categories.label(2583)} in listed


async def test_the_categories_are_listed_in_the_language_that_is_asked_for(
    client: httpx2.AsyncClient, state: PredictState
) -> None:
    answer = await client.get("/categories", headers={"Accept-Language": "en"})
    english = state.categories.translated("en").label(2583)
    assert english != state.categories.label(2583)
    assert {"category_id": 2583, "label": english} in answer.json()["categories"]
    assert answer.headers["content-language"] == "en"


async def test_a_code_that_only_the_champion_knows_is_listed_too(
    app: FastAPI, client: httpx2.AsyncClient, state: PredictState, monkeypatch: pytest.MonkeyPatch
) -> None:
    app.state.predict = replace(state, categories=Categories((10, 20), {10: "Livres", 20: "Jeux"}))
    monkeypatch.setattr(state.champion, "_bundle", fake_bundle(TODAY))
    listed = (await client.get("/categories")).json()["categories"]
    assert [(one["category_id"], one["label"]) for one in listed] == [
        (10, "Livres"),
        (20, "Jeux"),
        (40, "40"),
        (2583, "2583"),
    ]
