"""A database that is full is said to be full, not away."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from fastapi import APIRouter, FastAPI
from httpx2 import ASGITransport, AsyncClient
from sqlalchemy import text

from rayonnage_shared.database.engine import open_database, writing
from rayonnage_shared.http.app import create_service
from rayonnage_shared.http.outage import answer_outages


@asynccontextmanager
async def lifespan(_app: FastAPI) -> AsyncIterator[None]:
    yield


async def test_a_write_to_a_full_database_is_507(tmp_path: Path) -> None:
    engine = open_database(f"sqlite:///{tmp_path}/full.db")
    router = APIRouter()

    @router.post("/rows")
    async def add_rows() -> None:
        with writing(engine) as session:
            session.connection().exec_driver_sql("PRAGMA max_page_count = 10")
            session.connection().execute(text("CREATE TABLE rows (content)"))
            session.connection().execute(text("INSERT INTO rows VALUES (zeroblob(1000000))"))

    app = create_service(
        title="Test", description="", lifespan=lifespan, routers=[router], readiness={}, max_body_bytes=100
    )
    answer_outages(app)
    async with AsyncClient(transport=ASGITransport(app), base_url="http://test") as client:
        answer = await client.post("/rows")
    engine.dispose()

    assert (answer.status_code, answer.json()["code"]) == (507, "storage_full")
    assert "DATASETS_KEPT" in answer.json()["detail"]
