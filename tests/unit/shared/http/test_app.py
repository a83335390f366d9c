from __future__ import annotations

import asyncio
import errno
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager

import pytest
import structlog
from fastapi import APIRouter, FastAPI
from httpx2 import ASGITransport, AsyncClient
from pydantic import BaseModel
from starlette.requests import Request
from starlette.types import Message
from structlog.typing import EventDict

from rayonnage_shared.core.errors import DependencyDown, NotFound
from rayonnage_shared.http.app import create_service
from rayonnage_shared.observability.http_metrics import PROBES, REQUESTS

LIMIT = 1000
router = APIRouter()


class Sent(BaseModel):
    number: int


@router.post("/typed")
async def typed(sent: Sent) -> Sent:
    return sent


@router.post("/raw")
async def raw(request: Request) -> int:
    return len(await request.body())


@router.get("/missing")
async def missing() -> None:
    raise NotFound("Look elsewhere.")


@router.get("/bug")
async def bug() -> None:
    raise KeyError("secret detail")


@router.get("/full")
async def full() -> None:
    raise OSError(errno.ENOSPC, "No space left on device")


@router.get("/forbidden")
async def forbidden() -> None:
    raise PermissionError(errno.EACCES, "secret detail")


@router.get("/status")
async def status() -> None:
    raise DependencyDown("predict is away")


@pytest.fixture(autouse=True)
def events() -> Iterator[list[EventDict]]:
    """What was logged, instead of structlog's default, which draws each frame of a traceback."""
    with structlog.testing.capture_logs() as captured:
        yield captured


@asynccontextmanager
async def lifespan(_app: FastAPI) -> AsyncIterator[None]:
    yield


@pytest.fixture
def app() -> FastAPI:
    async def fine() -> str | None:
        return None

    async def broken() -> str | None:
        return "the cable is out"

    return create_service(
        title="Test",
        description="",
        lifespan=lifespan,
        routers=[router],
        readiness={"fine": fine, "broken": broken},
        max_body_bytes=LIMIT,
    )


@pytest.fixture
async def client(app: FastAPI) -> AsyncIterator[AsyncClient]:
    async with AsyncClient(transport=ASGITransport(app, raise_app_exceptions=False), base_url="http://test") as found:
        yield found


async def chunks(size: int) -> AsyncIterator[bytes]:
    for _ in range(size // 100):
        yield b"x" * 100


async def test_a_callers_request_id_is_kept_and_a_bad_one_replaced(client: AsyncClient) -> None:
    kept = await client.get("/missing", headers={"X-Request-ID": "my-request-1"})
    replaced = await client.get("/missing", headers={"X-Request-ID": "no spaces, please"})

    assert kept.headers["X-Request-ID"] == kept.json()["request_id"] == "my-request-1"
    assert replaced.headers["X-Request-ID"] == replaced.json()["request_id"] != "no spaces, please"


@pytest.mark.parametrize(
    ("method", "path", "status", "code"),
    [
        ("GET", "/missing", 404, "not_found"),
        ("GET", "/nowhere", 404, "not_found"),
        ("PUT", "/missing", 405, "method_not_allowed"),
        ("GET", "/bug", 500, "internal_error"),
        ("GET", "/full", 507, "storage_full"),
        ("GET", "/forbidden", 500, "internal_error"),
        ("GET", "/health/ready", 503, "dependency_unavailable"),
    ],
)
async def test_every_error_is_a_problem_document(
    client: AsyncClient, method: str, path: str, status: int, code: str
) -> None:
    answer = await client.request(method, path)

    assert answer.status_code == status
    assert answer.headers["Content-Type"] == "application/problem+json"
    assert answer.json()["code"] == code
    assert "secret detail" not in answer.text


async def test_probes_and_the_platforms_own_polling_leave_no_line(client: AsyncClient, events: list[EventDict]) -> None:
    for path in (*PROBES, "/openapi.json", "/.well-known/jwks.json", "/internal/revocations"):
        await client.get(path)
    assert events == [], "although two of the probes answered 503"
    assert {sample.labels["handler"] for metric in REQUESTS.collect() for sample in metric.samples}.isdisjoint(PROBES)
    await client.get("/missing")
    assert [event["path"] for event in events] == ["/missing"]


@pytest.mark.parametrize("path", ["/raw", "/typed"])
async def test_a_caller_who_disconnects_while_sending_a_body_is_no_error(
    app: FastAPI, events: list[EventDict], path: str
) -> None:
    sent: list[Message] = []
    messages: list[Message] = [
        {"type": "http.request", "body": b"{", "more_body": True},
        {"type": "http.disconnect"},
    ]

    async def receive() -> Message:
        return messages.pop(0)

    async def send(message: Message) -> None:
        sent.append(message)

    headers = [(b"content-type", b"application/json"), (b"content-length", b"500")]
    scope = {"type": "http", "method": "POST", "path": path, "raw_path": path.encode(), "query_string": b""}
    before = counted(path)
    await app(scope | {"headers": headers, "app": app}, receive, send)

    assert sent[0]["status"] == 499
    assert [(event["event"], event["log_level"], event["status"]) for event in events] == [
        ("http.request", "info", 499)
    ]
    assert counted(path) == before + 1, "neither a 400 nor a 500"


def counted(path: str) -> float:
    return float(REQUESTS.labels("POST", "499", path)._value.get())


async def test_readiness_names_what_is_missing(client: AsyncClient) -> None:
    assert (await client.get("/health/ready")).json()["dependencies"] == {"broken": "the cable is out"}
    assert (await client.get("/health/live")).status_code == 200


async def test_whoever_asks_for_readiness_waits_for_the_slowest_dependency_and_not_for_each_in_turn() -> None:
    all_are_asked = asyncio.Barrier(3)

    async def away() -> str | None:
        async with asyncio.timeout(5):
            await all_are_asked.wait()
        return "away"

    app = create_service(
        title="test",
        description="",
        lifespan=lifespan,
        routers=[],
        readiness={},
        reported=dict.fromkeys(("one", "two", "three"), away),
        max_body_bytes=LIMIT,
    )
    async with AsyncClient(transport=ASGITransport(app), base_url="http://test") as client:
        answer = (await client.get("/health/ready")).json()

    assert answer == {"status": "degraded", "dependencies": {"one": "away", "two": "away", "three": "away"}}


@pytest.mark.parametrize("path", ["/typed", "/raw"])
async def test_a_body_over_the_limit_is_refused_with_and_without_a_content_length(
    client: AsyncClient, path: str
) -> None:
    for content in (b"x" * (LIMIT + 1), chunks(LIMIT + 100)):
        answer = await client.post(path, content=content, headers={"Content-Type": "application/json"})

        assert answer.status_code == 413
        assert answer.headers["Content-Type"] == "application/problem+json"
        assert answer.json()["code"] == "body_too_large"


async def test_a_body_at_the_limit_is_read(client: AsyncClient) -> None:
    assert (await client.post("/raw", content=b"x" * LIMIT)).json() == LIMIT


async def test_a_field_error_names_the_field(client: AsyncClient) -> None:
    answer = await client.post("/typed", json={"number": "many"})

    assert answer.status_code == 422
    assert answer.json()["errors"][0]["field"] == "body.number"
