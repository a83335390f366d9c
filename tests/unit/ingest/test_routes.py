"""HTTP of ingest."""

from __future__ import annotations

import asyncio
import csv
import errno
import io
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import httpx2
import pytest
from fastapi import FastAPI
from prometheus_client import REGISTRY
from pydantic import SecretStr

from rayonnage_ingest import work
from rayonnage_ingest.app import create_app
from rayonnage_ingest.metrics import ROWS, ROWS_WITH_IMAGE
from rayonnage_ingest.routes import Ingest
from rayonnage_ingest.settings import IngestSettings
from rayonnage_shared.core import disk
from tests.tokens import SECRET, bearer
from tests.waiting import eventually_async

GOOD = b"designation,productid,imageid,prdtypecode\nLampe de chevet,1,1,2060\nVase bleu,2,2,2060\n"
BAD = b"designation,productid,imageid,prdtypecode\n=Lampe,1,1,99\n"


ADMIN = bearer("claire", "admin")


@pytest.fixture
def settings(tmp_path: Path) -> IngestSettings:
    return IngestSettings(
        _env_file=None,
        data_path=tmp_path / "data",
        database_url=f"sqlite:///{tmp_path}/rayonnage.db",
        algorithm="HS256",
        secret_key=SecretStr(SECRET),
        auth_url="http://127.0.0.1:9",
        ingest_max_body_bytes=100_000,
        ingest_max_waiting=0,
    )


@pytest.fixture
async def app(settings: IngestSettings) -> AsyncIterator[FastAPI]:
    built = create_app(settings)
    async with built.router.lifespan_context(built):
        yield built


@pytest.fixture
async def client(app: FastAPI) -> AsyncIterator[httpx2.AsyncClient]:
    transport = httpx2.ASGITransport(app)
    async with httpx2.AsyncClient(transport=transport, base_url="http://ingest", headers=ADMIN) as opened:
        yield opened


async def send(client: httpx2.AsyncClient, features: bytes) -> httpx2.Response:
    return await client.post("/ingest", files={"features": ("f.csv", features)})


async def test_products_make_a_version_once_and_their_report_stays(
    client: httpx2.AsyncClient, settings: IngestSettings
) -> None:
    first = await send(client, GOOD + b"Inconnu,3,3,99\n")
    assert (first.status_code, first.json()["rows_added"], first.json()["rows_rejected"]) == (201, 2, 1)
    version, ingest_id = first.json()["dataset_version"], first.json()["ingest_id"]
    again = await send(client, GOOD)
    assert (again.status_code, again.json()["dataset_version"]) == (200, version)

    report = await client.get(f"/ingest/{ingest_id}")
    assert report.json() == first.json()
    rejects = await client.get(first.json()["report_url"])
    assert rejects.headers["content-type"].startswith("text/csv")
    assert [row["line"] for row in csv.DictReader(io.StringIO(rejects.text))] == ["4"]

    listed = (await client.get("/datasets")).json()
    assert (listed["current"], [one["version"] for one in listed["datasets"]]) == (version, [version])
    assert (await client.get(f"/datasets/{version}")).json()["rows"] == 2
    assert REGISTRY.get_sample_value("rayonnage_dataset_rows") == 2
    assert not list((settings.data_path / "uploads").iterdir())


async def test_a_file_of_bad_rows_answers_422_with_the_report(client: httpx2.AsyncClient) -> None:
    answer = await send(client, BAD)
    problem = answer.json()
    assert (answer.status_code, problem["code"], problem["rows_rejected"]) == (422, "every_row_rejected", 1)
    assert problem["rejects"][0]["line"] == 2
    assert (await client.get(problem["report_url"])).status_code == 200


async def test_a_file_that_cannot_be_read_answers_422(client: httpx2.AsyncClient) -> None:
    answer = await send(client, b"\xff\xfeh")
    assert (answer.status_code, answer.json()["code"]) == (422, "unreadable_table")


async def test_a_zip_that_is_not_safe_answers_422(client: httpx2.AsyncClient) -> None:
    answer = await client.post("/ingest", files={"features": ("f.csv", GOOD), "images": ("i.zip", b"no zip")})
    assert (answer.status_code, answer.json()["code"]) == (422, "unsafe_archive")


async def test_a_body_over_the_limit_answers_413(client: httpx2.AsyncClient, settings: IngestSettings) -> None:
    answer = await send(client, b"x" * 200_000)
    assert (answer.status_code, answer.headers["content-type"]) == (413, "application/problem+json")
    assert not list((settings.data_path / "uploads").iterdir())


async def test_one_more_than_may_wait_is_answered_503_with_retry_after(
    app: FastAPI, client: httpx2.AsyncClient
) -> None:
    ingest: Ingest = app.state.ingest
    taken = ingest.ingestions.admit()
    answer = await send(client, GOOD)
    assert (answer.status_code, answer.headers["retry-after"]) == (503, "30")
    ingest.ingestions.give_up(taken)


async def test_the_work_goes_on_when_the_caller_leaves(app: FastAPI, client: httpx2.AsyncClient) -> None:
    ingest: Ingest = app.state.ingest
    call = asyncio.create_task(send(client, GOOD))
    assert await eventually_async(lambda: ingest.ingestions.at_work)
    work = asyncio.gather(*ingest.ingestions.at_work)
    call.cancel()
    await work
    assert ingest.datasets.current() is not None


async def test_a_worker_that_dies_answers_500_and_leaves_no_version(
    app: FastAPI, client: httpx2.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("rayonnage_ingest.ingestions.sys.executable", "/bin/false")
    answer = await send(client, GOOD)
    assert (answer.status_code, answer.json()["code"]) == (500, "ingest_failed")
    assert app.state.ingest.datasets.current() is None


def _full(*_arguments: object, **_options: object) -> None:
    raise OSError(errno.ENOSPC, "No space left on device")


async def test_a_disk_that_is_full_during_an_upload_is_a_507_and_the_next_upload_is_admitted(
    client: httpx2.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr("rayonnage_ingest.uploads._Parts.write", _full)
        answer = await send(client, GOOD)
    assert (answer.status_code, answer.json()["code"]) == (507, "storage_full")
    assert "Free disk space" in answer.json()["detail"]
    assert (await send(client, GOOD)).status_code == 201


def test_a_disk_that_is_full_during_the_work_is_a_507(
    settings: IngestSettings, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(work, "ingest", _full)
    request = {
        "data_path": str(tmp_path),
        **dict.fromkeys(("categories_path", "target", "images", "allow_new_codes")),
        "features": str(tmp_path / "f.csv"),
        "ingest_id": "0" * 26,
        "max_image_bytes": settings.max_image_bytes,
        "max_image_pixels": settings.max_image_pixels,
        "max_rows": 10,
    }
    error = work.run(request)["error"]
    assert (error["status"], error["code"]) == (507, "storage_full")


async def test_ready_says_that_the_disk_is_full(client: httpx2.AsyncClient, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(disk, "MIN_FREE_BYTES", 2**62)
    answer = await client.get("/health/ready")
    assert answer.status_code == 503
    assert "is full" in answer.json()["dependencies"]["data"]


@pytest.mark.parametrize("path", ["/datasets", "/datasets/20260101T000000Z-0000", "/ingest/" + "0" * 26])
async def test_routes_are_for_admins(client: httpx2.AsyncClient, path: str) -> None:
    assert (await client.get(path, headers=bearer("claire", "user"))).status_code == 403
    assert (await client.get(path, headers={"Authorization": ""})).status_code == 401


async def test_ingesting_is_for_admins(client: httpx2.AsyncClient) -> None:
    answer = await client.post("/ingest", files={"features": ("f.csv", GOOD)}, headers=bearer("claire", "user"))
    assert answer.status_code == 403


@pytest.mark.parametrize(
    ("path", "status"),
    [
        ("/datasets/20260101T000000Z-0000", 404),
        ("/ingest/" + "0" * 26, 404),
        ("/ingest/" + "0" * 26 + "/rejects.csv", 404),
        ("/datasets/..%2f..%2fetc", 404),
        ("/datasets/current.json", 422),
        ("/ingest/abc", 422),
    ],
)
async def test_what_is_not_there_is_a_clear_4xx(client: httpx2.AsyncClient, path: str, status: int) -> None:
    answer = await client.get(path)
    assert (answer.status_code, answer.headers["content-type"]) == (status, "application/problem+json")


async def test_the_schema_shows_the_files(app: FastAPI) -> None:
    operation = app.openapi()["paths"]["/ingest"]["post"]
    form = operation["requestBody"]["content"]["multipart/form-data"]["schema"]
    assert form["properties"]["images"]["format"] == "binary"
    assert {"200", "201", "413", "422", "503"} <= operation["responses"].keys()


@pytest.fixture(autouse=True)
def _quiet_gauges() -> Iterator[None]:
    yield
    for gauge in (ROWS, ROWS_WITH_IMAGE):
        gauge.set_function(lambda: 0)


async def test_a_broken_dataset_is_named_and_everything_else_goes_on(
    client: httpx2.AsyncClient, settings: IngestSettings
) -> None:
    version = (await send(client, GOOD)).json()["dataset_version"]
    newer = (await send(client, GOOD + b"Lampe,3,3,2060\n")).json()["dataset_version"]
    (settings.data_path / "datasets" / newer / "manifest.json").write_text("{")

    listed, broken = await client.get("/datasets"), await client.get(f"/datasets/{newer}")

    assert (listed.status_code, [one["version"] for one in listed.json()["datasets"]]) == (200, [version])
    assert (listed.json()["current"], list(listed.json()["broken"])) == (newer, [newer])
    assert (broken.status_code, broken.json()["code"]) == (500, "dataset_broken")
    assert "rayonnage_dataset_rows NaN" in (await client.get("/metrics")).text


async def test_a_broken_ingest_report_is_a_problem(client: httpx2.AsyncClient, settings: IngestSettings) -> None:
    ingest_id = (await send(client, GOOD)).json()["ingest_id"]
    (settings.data_path / "ingests" / ingest_id / "report.json").write_text("{")

    answer = await client.get(f"/ingest/{ingest_id}")

    assert (answer.status_code, answer.json()["code"]) == (500, "ingest_report_broken")
