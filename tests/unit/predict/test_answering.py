"""The predict routes answer ahead of FastAPI, and what they answer is what FastAPI would."""

from __future__ import annotations

import asyncio
import base64
import json
import threading
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, cast

import pytest
import structlog
from fastapi import FastAPI
from httpx2 import ASGITransport, AsyncClient, Response
from jsonschema import Draft202012Validator
from prometheus_client import REGISTRY
from starlette.types import Message, Receive

from rayonnage_predict import answering as answering_module
from rayonnage_predict import app as app_module
from rayonnage_predict import champion as champion_module
from rayonnage_predict import request_parsing
from rayonnage_predict.answering import SHORT_TEXT_CHARACTERS, SMALL_BODY_BYTES, THREAD_BODY_BYTES, BodyMemory
from rayonnage_predict.app import create_app
from rayonnage_predict.settings import PredictSettings
from rayonnage_predict.workers import Workers
from rayonnage_shared.core.errors import Overloaded
from rayonnage_shared.http.hot_routes import HotRoutes
from rayonnage_shared.ml.bundles.bundle import Bundle
from rayonnage_shared.ml.bundles.champion import Champion, write_champion
from tests.tokens import SECRET, bearer, token
from tests.unit.predict.shop import Gate
from tests.unit.shared.ml.features.drawn_photos import encoded, four_corners
from tests.unit.shared.predictions.bundles import fake_bundle

MAX_BODY_BYTES = 300_000
PHOTO = encoded(four_corners())
PHOTO_TEXT = base64.b64encode(PHOTO).decode()
PATHS = ("/predict", "/predict/text/manual", "/predict/image/manual")
JSON = "application/json"
FORM = "multipart/form-data; boundary=xyz"
Apps = tuple[FastAPI, FastAPI]


def form(*parts: tuple[str, bytes]) -> bytes:
    """A form whose disposition lines are given whole after `form-data; `."""
    lines = [b"--xyz\r\nContent-Disposition: form-data; " + head.encode() + b"\r\n\r\n" + content + b"\r\n"
             for head, content in parts]  # fmt: skip
    return b"".join(lines) + b"--xyz--\r\n"


def product(**fields: Any) -> bytes:
    return json.dumps(fields).encode()


BODIES: dict[str, tuple[str, bytes]] = {
    "title": (JSON, product(designation="Piscine ronde")),
    "everything": (
        JSON,
        product(
            designation="<b>Piscine</b> à balles",
            description="Pour enfants &amp; bébés",
            product_identifier="sku-1",
            product_id=7,
            imageid=8.5,
            top_k=2,
            image=PHOTO_TEXT,
        ),
    ),
    "photo": (JSON, product(image=f"data:image/png;base64,{PHOTO_TEXT}")),
    "charset": (f"{JSON}; charset=utf-8", product(designation="Piscine")),
    "capitals": ("Application/JSON", product(designation="Piscine")),
    "emoji": (JSON, '{"designation": "Piscine 🏊", "product_identifier": "é\\u0000"}'.encode()),
    "surrogate": (JSON, b'{"designation": "\\ud800"}'),
    "surrogate key": (JSON, b'{"designation": "x", "\\ud800": 1}'),
    "number": (JSON, product(designation=12)),
    "no bool": (JSON, product(designation=True)),
    "list": (JSON, product(designation=["x"])),
    "many wrong": (JSON, product(designation=[], description={}, top_k="x", product_identifier=[], image=3)),
    "unknown": (JSON, product(designation="x", colour="red")),
    "misspelt": (JSON, product(desigation="x")),
    "file": (JSON, product(file="x")),
    "top_k 0": (JSON, product(designation="x", top_k=0)),
    "top_k 28": (JSON, product(designation="x", top_k=28)),
    "top_k 27": (JSON, product(designation="x", top_k=27)),
    "top_k huge": (JSON, b'{"designation": "x", "top_k": ' + b"9" * 5000 + b"}"),
    "long": (JSON, product(designation="x" * 20_001)),
    "nearly long": (JSON, product(designation="piscine " * 2_500)),
    "empty text": (JSON, product(designation="")),
    "blank": (JSON, product(designation="<p> </p>")),
    "null": (JSON, product(designation=None)),
    "nothing": (JSON, b"{}"),
    "no body": (JSON, b""),
    "half": (JSON, b'{"designation": "x'),
    "array": (JSON, b"[]"),
    "deep": (JSON, b"[" * 1000),
    "NaN": (JSON, b'{"designation": NaN}'),
    "not UTF-8": (JSON, b'{"designation": "\xff"}'),
    "many keys": (JSON, b'{"designation": "x", ' + b",".join(b'"%d":1' % i for i in range(30_000)) + b"}"),
    "not base64": (JSON, product(image="https://example.org/a.jpg")),
    "not a photo": (JSON, product(image=base64.b64encode(b"no photo").decode())),
    "form": (FORM, form(('name="designation"', b"Piscine"), ('name="top_k"', b"1"))),
    "form with photo": (FORM, form(('name="designation"', b"Piscine"), ('name="image"; filename="a.png"', PHOTO))),
    "form unquoted": (FORM, form(("name=designation", b"Piscine"))),
    "form twice": (FORM, form(('name="designation"', b"a"), ('name="designation"', b"b"))),
    "form unknown": (FORM, form(('name="colour"', b"red"))),
    "form file": (FORM, form(('name="photo"; filename="a.png"', PHOTO))),
    "form not UTF-8": (FORM, form(('name="designation"', b"\xff"))),
    "form cut": (FORM, form(('name="designation"', b"Piscine"))[:-8]),
    "form without boundary": ("multipart/form-data", form(('name="designation"', b"Piscine"))),
    "text": ("text/plain", b"designation=x"),
    "urlencoded": ("application/x-www-form-urlencoded", b"designation=x"),
    "no type": ("", product(designation="Piscine")),
    "large": (JSON, product(designation="x", image="A" * 90_000)),
    "too large": (JSON, product(image="A" * MAX_BODY_BYTES)),
}


@pytest.fixture(autouse=True)
def events() -> Iterator[list[structlog.typing.EventDict]]:
    with structlog.testing.capture_logs() as captured:
        yield captured


@pytest.fixture
def settings(tmp_path: Path) -> PredictSettings:
    return PredictSettings(
        _env_file=None,
        models_path=tmp_path / "models",
        data_path=tmp_path,
        algorithm="HS256",
        secret_key=SECRET,
        predict_max_body_bytes=MAX_BODY_BYTES,
        predict_threads=1,
    )


def without_hot_routes(app: FastAPI) -> FastAPI:
    app.user_middleware = [one for one in app.user_middleware if cast(object, one.cls) is not HotRoutes]
    return app


@pytest.fixture
async def apps(settings: PredictSettings) -> Apps:
    """The service as it runs, and as it would be if FastAPI answered all of its routes."""
    settings.models_path.mkdir()
    return create_app(settings), without_hot_routes(create_app(settings))


@pytest.fixture
def promote(apps: Apps, settings: PredictSettings, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Any]:
    monkeypatch.setattr(Bundle, "warm_up", lambda _bundle: None)

    async def promoted(bundle: Bundle) -> None:
        monkeypatch.setattr(champion_module, "load_bundle", lambda _folder, _version: bundle)
        write_champion(settings.models_path, Champion.promoted(bundle.version, "jane", "better"))
        for app in apps:
            await app.state.predict.champion.refresh()

    return promoted


@asynccontextmanager
async def client_of(app: FastAPI) -> AsyncIterator[AsyncClient]:
    async with AsyncClient(transport=ASGITransport(app, raise_app_exceptions=False), base_url="http://test") as client:
        yield client


async def both(apps: Apps, path: str, **request: Any) -> tuple[Response, Response]:
    answers = []
    for app in apps:
        async with client_of(app) as client:
            answers.append(await client.post(path, **request))
    return answers[0], answers[1]


def comparable(answer: Response) -> tuple[int, dict[str, str], Any]:
    """What must be the same: all but the time that it took and the new id."""
    document = answer.json()
    if answer.status_code == 200:
        assert len(document.pop("prediction_id")) == 26
        assert document.pop("duration_ms") >= 0
        assert list(document) == [name for name in answer.json() if name not in ("prediction_id", "duration_ms")]
    headers = {name: value for name, value in answer.headers.items() if name != "content-length"}
    return answer.status_code, headers, document


def headers_of(content_type: str, **more: str) -> dict[str, str]:
    return {**bearer(), "Content-Type": content_type, "X-Request-ID": "request-0001", **more}


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("name", BODIES)
async def test_each_body_gets_the_answer_that_fastapi_gives(
    name: str, path: str, apps: Apps, promote: Callable[..., Any]
) -> None:
    await promote(fake_bundle())
    content_type, body = BODIES[name]
    hot, declared = await both(apps, path, content=body, headers=headers_of(content_type))
    assert comparable(hot) == comparable(declared)
    document = apps[1].openapi()
    schema = document["paths"][path]["post"]["responses"][str(hot.status_code)]["content"]
    described = schema[hot.headers["content-type"]]["schema"] | {"components": document["components"]}
    Draft202012Validator(described).validate(hot.json())


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"Authorization": "Bearer nonsense"},
        {"Authorization": "Bearer"},
        {"Authorization": "Basic YTpi"},
        {"Authorization": f"bearer {token()}"},
        {"Authorization": f"Bearer {token(exp=1)}"},
        {**bearer(), "Accept-Language": "en-GB, fr;q=0.5"},
        {**bearer(), "Accept-Language": "de"},
        {**bearer(), "Accept-Language": "en;q=x"},
        {**bearer(), "X-Request-ID": "bad id"},
    ],
)
async def test_each_header_has_the_effect_that_fastapi_gives_it(
    headers: dict[str, str], apps: Apps, promote: Callable[..., Any]
) -> None:
    await promote(fake_bundle())
    sent = {"Content-Type": JSON, "X-Request-ID": "request-0001", **headers}
    hot, declared = await both(apps, "/predict", content=product(designation="Piscine"), headers=sent)
    if sent["X-Request-ID"] == "bad id":
        assert {len(answer.headers.pop("x-request-id")) for answer in (hot, declared)} == {26}
    assert comparable(hot) == comparable(declared)


@pytest.mark.parametrize("bundle", [None, fake_bundle(image=None), fake_bundle(text=None), fake_bundle(fast=False)])
@pytest.mark.parametrize("name", ["title", "photo", "form with photo", "unknown", "text"])
async def test_each_bundle_answers_as_through_fastapi(
    name: str, bundle: Bundle | None, apps: Apps, promote: Callable[..., Any]
) -> None:
    if bundle is not None:
        await promote(bundle)
    hot, declared = await both(apps, "/predict", content=BODIES[name][1], headers=headers_of(BODIES[name][0]))
    assert comparable(hot) == comparable(declared)


async def test_other_methods_and_paths_are_answered_by_fastapi(apps: Apps) -> None:
    for app in apps:
        async with client_of(app) as client:
            answers = [await client.request(method, "/predict") for method in ("GET", "HEAD", "PUT", "OPTIONS")]
            assert [answer.status_code for answer in answers] == [405] * 4
            assert (await client.get("/health/live")).status_code == 200


async def test_an_unforeseen_error_is_a_problem_with_its_traceback_in_the_log(
    apps: Apps, promote: Callable[..., Any], events: list[structlog.typing.EventDict]
) -> None:
    def fail() -> None:
        raise KeyError("secret detail")

    await promote(fake_bundle(act=fail))
    hot, declared = await both(apps, "/predict", content=BODIES["title"][1], headers=headers_of(JSON))
    assert hot.status_code == declared.status_code == 500
    assert comparable(hot) == comparable(declared)
    failed = [event for event in events if event["event"] == "http.request.failed"]
    assert len(failed) == 2 and failed[0]["request_id"] == "request-0001" and failed[0]["exc_info"]


async def test_a_request_is_counted_timed_and_logged(
    apps: Apps, promote: Callable[..., Any], events: list[structlog.typing.EventDict]
) -> None:
    def count(name: str, **labels: str) -> float:
        return REGISTRY.get_sample_value(name, {"method": "POST", "handler": "/predict", **labels}) or 0.0

    await promote(fake_bundle())
    before = count("http_requests_total", status="200"), count("http_request_duration_seconds_count")
    async with client_of(apps[0]) as client:
        await client.post("/predict", content=BODIES["title"][1], headers=headers_of(JSON))
    after = count("http_requests_total", status="200"), count("http_request_duration_seconds_count")
    assert [new - old for new, old in zip(after, before, strict=True)] == [1, 1]
    (line,) = [event for event in events if event["event"] == "http.request"]
    assert line.pop("duration_ms") >= 0
    assert line == {
        "event": "http.request",
        "log_level": "info",
        "request_id": "request-0001",
        "method": "POST",
        "path": "/predict",
        "status": 200,
        "user": "ada",
    }


# Where the work is done


@pytest.mark.parametrize(
    ("name", "fast", "where"),
    [("title", True, "loop"), ("title", False, "thread"), ("nearly long", True, "thread"), ("photo", True, "thread")],
)
async def test_only_short_text_is_predicted_on_the_event_loop(
    name: str, fast: bool, where: str, apps: Apps, promote: Callable[..., Any]
) -> None:
    assert len(BODIES["nearly long"][1]) > SHORT_TEXT_CHARACTERS
    gate = Gate()
    gate.open()
    await promote(fake_bundle(fast=fast, act=gate))
    async with client_of(apps[0]) as client:
        await client.post("/predict", content=BODIES[name][1], headers=headers_of(BODIES[name][0]))
    here = threading.current_thread().name
    assert {one == here for one in gate.threads} == {where == "loop"}


async def test_a_large_body_is_parsed_in_a_thread(
    apps: Apps, promote: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    threads: dict[int, str] = {}
    parse = request_parsing.parse

    def noting(content_type: str, body: bytes, only: Any) -> Any:
        threads[len(body)] = threading.current_thread().name
        return parse(content_type, body, only)

    monkeypatch.setattr(answering_module, "parse", noting)
    await promote(fake_bundle())
    async with client_of(apps[0]) as client:
        for name in ("title", "large"):
            await client.post("/predict", content=BODIES[name][1], headers=headers_of(JSON))
    here = threading.current_thread().name
    assert {size > SMALL_BODY_BYTES: name == here for size, name in threads.items()} == {False: True, True: False}


# Bodies that arrive in pieces, late, or never


async def ask(
    app: FastAPI, *messages: Message, receive: Receive | None = None, headers: Sequence[tuple[bytes, bytes]] = ()
) -> list[Message]:
    """Send the messages of a client, who then waits, and return what the application sends."""
    waiting = list(messages)
    sent: list[Message] = []

    async def next_message() -> Message:
        if not waiting:
            await asyncio.Event().wait()
        return waiting.pop(0)

    async def send(message: Message) -> None:
        sent.append(message)

    all_headers = [(b"content-type", b"application/json"), (b"authorization", f"Bearer {token()}".encode()), *headers]
    scope = {"type": "http", "method": "POST", "path": "/predict", "headers": all_headers, "query_string": b""}
    await app(scope, receive or next_message, send)
    return sent


def chunk(body: bytes, *, more: bool = True) -> Message:
    return {"type": "http.request", "body": body, "more_body": more}


async def test_a_body_that_needs_a_thread_is_refused_before_it_is_received(
    apps: Apps, promote: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(_workers: Workers) -> None:
        raise Overloaded("The queue is full.")

    async def receive() -> Message:
        pytest.fail("the body was received")

    await promote(fake_bundle())
    monkeypatch.setattr(Workers, "check_room", full)
    length = (b"content-length", b"%d" % (THREAD_BODY_BYTES + 1))
    start, _ = await ask(apps[0], receive=receive, headers=(length,))
    assert start["status"] == 503 and dict(start["headers"])[b"retry-after"] == b"1"
    assert (await ask(apps[0], chunk(BODIES["title"][1], more=False)))[0]["status"] == 200, "short text needs no thread"


async def test_a_body_in_pieces_is_put_together(apps: Apps, promote: Callable[..., Any]) -> None:
    await promote(fake_bundle())
    start, body = await ask(apps[0], chunk(b'{"designation":'), chunk(b""), chunk(b' "Piscine"}', more=False))
    assert start["status"] == 200 and json.loads(body["body"])["label"]


async def test_a_body_without_a_length_is_refused_as_soon_as_it_is_too_large(
    apps: Apps, promote: Callable[..., Any]
) -> None:
    await promote(fake_bundle())
    pieces = [chunk(b"x" * 100_000) for _ in range(4)]
    start, _ = await ask(apps[0], *pieces)
    assert start["status"] == 413


async def test_a_body_that_stalls_is_refused(
    apps: Apps, promote: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("rayonnage_shared.http.hot_routes.CHUNK_WITHIN_S", 0.01)
    await promote(fake_bundle())
    start, body = await ask(apps[0], chunk(b"{"))
    assert (start["status"], json.loads(body["body"])["code"]) == (408, "request_timeout")


async def test_who_leaves_in_the_middle_of_a_body_gets_no_answer_and_is_no_error(
    apps: Apps, promote: Callable[..., Any], events: list[structlog.typing.EventDict]
) -> None:
    await promote(fake_bundle())
    assert await ask(apps[0], chunk(b"{"), {"type": "http.disconnect"}) == []
    assert [(event["event"], event["status"]) for event in events if "status" in event] == [("http.request", 499)]
    assert not [event for event in events if event["log_level"] in ("warning", "error")]


async def test_who_leaves_the_queue_is_not_predicted(apps: Apps, promote: Callable[..., Any]) -> None:
    gate = Gate()
    await promote(fake_bundle(fast=False, act=gate))
    whole = chunk(BODIES["title"][1], more=False)
    running = asyncio.create_task(ask(apps[0], whole))
    await gate.arrival()
    assert await ask(apps[0], whole, {"type": "http.disconnect"}) == []
    await asyncio.sleep(0)  # its place in the queue is cancelled by a callback of the event loop
    gate.open()
    await running
    assert gate.calls == 1


async def test_the_bytes_of_large_bodies_are_bounded_and_freed_with_the_answer(
    apps: Apps, promote: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    memory = BodyMemory(SMALL_BODY_BYTES + 100_000)
    monkeypatch.setattr(app_module, "BodyMemory", lambda _limit: memory)
    await promote(fake_bundle())
    hot = create_app(apps[0].state.predict.settings)
    await hot.state.predict.champion.refresh()
    large = b'{"designation": "x", "image": "' + b"A" * 100_000
    leaving = asyncio.create_task(ask(hot, chunk(large)))
    await asyncio.sleep(0)  # until it waits for the rest of its body
    assert memory.left < SMALL_BODY_BYTES

    start, body = await ask(hot, chunk(large))
    assert (start["status"], json.loads(body["body"])["code"]) == (503, Overloaded.code)
    assert dict(start["headers"])[b"retry-after"] == b"1"
    assert (await ask(hot, chunk(BODIES["title"][1], more=False)))[0]["status"] == 200, "small bodies are admitted"

    leaving.cancel()
    with pytest.raises(asyncio.CancelledError):
        await leaving
    assert memory.left == SMALL_BODY_BYTES + 100_000


def test_what_a_request_holds_is_counted_once_it_is_large() -> None:
    memory = BodyMemory(200_000)
    held = answering_module._Held(memory)
    for _ in range(10):
        held.reserve(10_000)
    assert memory.left == 100_000
    with pytest.raises(Overloaded):
        held.reserve(100_001)
    held.release()
    assert memory.left == 200_000
