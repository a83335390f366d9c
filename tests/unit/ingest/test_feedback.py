"""Feedback goes into the dataset when an admin asks for it, and by itself."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import httpx2
import pytest
from sqlalchemy import Engine
from structlog.testing import capture_logs
from ulid import ULID

from rayonnage_ingest.app import create_app
from rayonnage_ingest.feedback_schedule import taking_feedback
from rayonnage_ingest.ingestions import Ingestion, Ingestions
from rayonnage_ingest.settings import IngestSettings
from rayonnage_ingest.uploads import Upload
from rayonnage_shared.auth.dependencies import current_admin
from rayonnage_shared.auth.tokens import Principal
from rayonnage_shared.core.errors import Overloaded
from rayonnage_shared.database.engine import migrate, open_database
from rayonnage_shared.feedback.repository import find_feedback, store_feedback
from rayonnage_shared.ml.catalogue.schemas import IngestReport
from rayonnage_shared.predictions.record import LoggedPrediction
from rayonnage_shared.predictions.repository import insert_predictions
from tests.waiting import PATIENCE_S, eventually_async

pytestmark = pytest.mark.usefixtures("own_metrics")

GOOD = b"designation,productid,imageid,prdtypecode\nLampe de chevet,1,1,2060\nVase bleu,2,2,2060\n"
OFTEN_H = 0.05 / 3600
NOTHING_NEW = IngestReport(
    ingest_id=str(ULID()),
    dataset_version=None,
    rows_total=0,
    rows_added=0,
    rows_duplicate=0,
    rows_rejected=0,
    conflicts=0,
    images_added=0,
    rejects=[],
    report_url="",
)
NOBODY_LISTENS = "postgresql://nobody@127.0.0.1:9/rayonnage"


@pytest.fixture
def settings(tmp_path: Path) -> IngestSettings:
    return IngestSettings(
        _env_file=None,
        data_path=tmp_path / "data",
        database_url=f"sqlite:///{tmp_path}/rayonnage.db",
        auth_url="http://127.0.0.1:9",
        feedback_ingest_every_h=0,
    )


@pytest.fixture
def engine(settings: IngestSettings) -> Iterator[Engine]:
    opened = open_database(settings.database_url)
    migrate(opened)
    yield opened
    opened.dispose()


@asynccontextmanager
async def application(settings: IngestSettings) -> AsyncIterator[httpx2.AsyncClient]:
    app = create_app(settings)
    app.dependency_overrides[current_admin] = lambda: Principal("claire", "admin", "t1", 0.0, 0.0)
    transport = httpx2.ASGITransport(app)
    async with (
        app.router.lifespan_context(app),
        httpx2.AsyncClient(transport=transport, base_url="http://ingest", timeout=PATIENCE_S) as opened,
    ):
        yield opened


def with_feedback(engine: Engine, designation: str, truth: int) -> str:
    """Write a prediction by a model of real products and the truth about it, and return its id."""
    said = (10, 0.9, "accept", 10, 0.9, None, None, 1.0)
    version = "20261121T081500Z-3f2a"
    row = LoggedPrediction(str(ULID()), time.time(), version, "jane", "r", designation, None, None, False, None, *said)
    insert_predictions(engine, [row])
    assert store_feedback(engine, row.prediction_id, truth, username="jane", demo=False)
    return row.prediction_id


def is_ingested(engine: Engine, prediction_id: str) -> bool:
    found = find_feedback(engine, prediction_id)
    return found is not None and found.ingested_in is not None


async def from_feedback(client: httpx2.AsyncClient) -> httpx2.Response:
    return await client.post("/ingest", files={"from_feedback": (None, "true")})


async def test_feedback_makes_a_version_when_it_is_asked_for(settings: IngestSettings, engine: Engine) -> None:
    async with application(settings) as client:
        first = (await client.post("/ingest", files={"features": ("f.csv", GOOD)})).json()
        with_feedback(engine, "Ballon de plage", 1302)
        answer, again = await from_feedback(client), await from_feedback(client)
        report = await client.get(f"/ingest/{answer.json()['ingest_id']}")
        dataset = (await client.get(f"/datasets/{answer.json()['dataset_version']}")).json()
    assert (answer.status_code, answer.json()["rows_added"]) == (201, 1), answer.text
    assert report.json() == answer.json()
    assert (dataset["parent"], dataset["rows"], dataset["classes"]["1302"]) == (first["dataset_version"], 3, 1)
    assert (again.status_code, again.json()["rows_total"], again.json()["dataset_version"]) == (
        200,
        0,
        dataset["version"],
    )


async def test_feedback_with_files_is_refused(settings: IngestSettings) -> None:
    async with application(settings) as client:
        answer = await client.post("/ingest", files={"from_feedback": (None, "true"), "features": ("f.csv", GOOD)})
    assert (answer.status_code, answer.json()["code"]) == (422, "invalid_input")


async def test_while_the_database_is_away_files_go_in_and_feedback_waits(settings: IngestSettings) -> None:
    async with application(settings.model_copy(update={"database_url": NOBODY_LISTENS})) as client:
        answer = await from_feedback(client)
        upload = await client.post("/ingest", files={"features": ("f.csv", GOOD)})
    assert (answer.status_code, answer.headers["retry-after"]) == (503, "2")
    assert answer.json()["code"] == "dependency_unavailable"
    assert upload.status_code == 201


async def test_feedback_goes_in_by_itself(settings: IngestSettings, engine: Engine) -> None:
    often = settings.model_copy(update={"feedback_ingest_every_h": OFTEN_H})
    async with application(often) as client:
        await client.post("/ingest", files={"features": ("f.csv", GOOD)})
        one = with_feedback(engine, "Ballon de plage", 1302)
        assert await eventually_async(lambda: is_ingested(engine, one))
        datasets = (await client.get("/datasets")).json()
    assert [one["rows"] for one in datasets["datasets"]] == [3, 2]


class Failing(Ingestions):
    """Fails in turn as an ingest that is busy and one with a bug do, then works."""

    def __init__(self, settings: IngestSettings) -> None:
        super().__init__(settings)
        self.errors: list[Exception] = [Overloaded("busy"), ValueError("a bug")]
        self.worked = asyncio.Event()

    async def run(self, ingestion: Ingestion, upload: Upload) -> IngestReport:
        self.give_up(ingestion)
        assert upload == Upload(features=None)
        if self.errors:
            raise self.errors.pop(0)
        self.worked.set()
        return NOTHING_NEW


async def test_what_goes_wrong_is_logged_and_tried_again(settings: IngestSettings) -> None:
    ingestions = Failing(settings)
    with capture_logs() as logs:
        async with asyncio.timeout(PATIENCE_S), taking_feedback(ingestions, OFTEN_H):
            await ingestions.worked.wait()
    assert [one["event"] for one in logs] == ["ingest.feedback.postponed", "ingest.feedback.failed"]


async def test_nothing_goes_in_by_itself_when_it_is_switched_off(settings: IngestSettings) -> None:
    ingestions = Failing(settings)
    async with taking_feedback(ingestions, 0):
        await asyncio.sleep(0.2)
    assert len(ingestions.errors) == 2
