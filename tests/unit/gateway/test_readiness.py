"""What the gateway says of the platform's state."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable

import httpx2
import pytest

from rayonnage_gateway import readiness as readiness_module
from rayonnage_gateway.readiness import Readiness
from rayonnage_gateway.upstream import Upstream
from tests.unit.gateway.servers import Conversation, Script, Service, reached, running
from tests.waiting import PATIENCE_S


def ready(conversation: Conversation) -> None:
    while True:
        conversation.read_head()
        conversation.answer(b'{"status": "ok"}')


def not_ready(detail: str) -> Script:
    def say(conversation: Conversation) -> None:
        while True:
            conversation.read_head()
            conversation.answer(json.dumps({"detail": detail}).encode(), 503)

    return say


def asked(script: Script, question: Callable[[httpx2.Client], httpx2.Response]) -> httpx2.Response:
    service = Service()
    try:
        service.play(script)
        with reached(auth_url=service.url, predict_url=service.url) as client:
            return question(client)
    finally:
        service.close()


def test_the_front_door_says_welcome(client: httpx2.Client) -> None:
    answer = client.get("/")
    assert answer.status_code == 200
    assert answer.json()["message"].startswith("Bienvenue")


def test_status_is_the_exact_sentence_while_predictions_can_be_made() -> None:
    answer = asked(ready, lambda client: client.get("/status"))
    assert (answer.status_code, answer.json()) == (200, {"status": "L'API fonctionne correctement"})


def test_status_names_what_predictions_lack() -> None:
    answer = asked(not_ready("no champion"), lambda client: client.get("/status"))
    assert answer.status_code == 503
    assert answer.json()["dependencies"] == {"auth": "no champion", "predict": "no champion"}


def test_status_is_503_while_services_are_away() -> None:
    with running() as gateway, httpx2.Client(base_url=gateway.url, timeout=PATIENCE_S) as client:
        answer = client.get("/status")
        assert (answer.status_code, answer.json()["code"]) == (503, "dependency_unavailable")
        assert "predict" in answer.json()["detail"]


def test_the_gateway_is_ready_though_services_are_not_and_says_which() -> None:
    answer = asked(ready, lambda client: client.get("/health/ready"))
    assert answer.status_code == 200
    assert answer.json()["status"] == "degraded"
    assert answer.json()["dependencies"] | {"ingest": "", "train": ""} == {
        "keys": "ok",
        "auth": "ok",
        "ingest": "",
        "predict": "ok",
        "train": "",
    }
    assert "ingest" in answer.json()["dependencies"]["ingest"]


def test_the_gateway_is_not_ready_before_it_can_verify_tokens() -> None:
    with running(algorithm="ES256") as gateway, httpx2.Client(base_url=gateway.url, timeout=PATIENCE_S) as client:
        answer = client.get("/health/ready")
        assert answer.status_code == 503
        assert "keys" in answer.json()["dependencies"]
        assert client.get("/health/live").status_code == 200


class HangingUpstream(Upstream):
    """Answers each request once it is told to, and counts them."""

    def __init__(self) -> None:
        self.asked = 0
        self.answers: asyncio.Queue[tuple[int, bytes]] = asyncio.Queue()

    async def fetch(self, path: str, *, timeout_s: float, max_bytes: int = 0) -> tuple[int, bytes]:
        self.asked += 1
        return await self.answers.get()


async def test_a_service_that_hangs_is_asked_once_however_many_callers_there_are() -> None:
    upstream = HangingUpstream()
    readiness = Readiness({"predict": upstream})
    callers = [asyncio.create_task(readiness.why_not_ready("predict")) for _ in range(20)]
    await asyncio.sleep(0)
    await upstream.answers.put((503, b'{"detail": "no champion"}'))

    assert await asyncio.gather(*callers) == ["no champion"] * 20
    assert upstream.asked == 1


async def test_callers_get_the_last_answer_until_there_is_a_new_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(readiness_module, "FRESH_S", 0.0)
    upstream = HangingUpstream()
    readiness = Readiness({"predict": upstream})
    await upstream.answers.put((200, b""))
    assert await readiness.why_not_ready("predict") is None
    await asyncio.sleep(0.001)

    first = asyncio.create_task(readiness.why_not_ready("predict"))
    await asyncio.sleep(0)
    assert await readiness.why_not_ready("predict") is None, "while the first caller waits"
    assert not first.done()
    await upstream.answers.put((503, b'{"detail": "no champion"}'))

    assert await first == "no champion"
    assert upstream.asked == 2


async def test_a_last_answer_that_is_too_old_is_not_given(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(readiness_module, "FRESH_S", 0.0)
    monkeypatch.setattr(readiness_module, "USABLE_S", 0.0)
    upstream = HangingUpstream()
    readiness = Readiness({"predict": upstream})
    await upstream.answers.put((200, b""))
    assert await readiness.why_not_ready("predict") is None
    await asyncio.sleep(0.001)

    callers = [asyncio.create_task(readiness.why_not_ready("predict")) for _ in range(3)]
    await asyncio.sleep(0)
    await upstream.answers.put((503, b'{"detail": "no champion"}'))

    assert await asyncio.gather(*callers) == ["no champion"] * 3


async def test_a_caller_who_leaves_does_not_end_the_question_of_others() -> None:
    upstream = HangingUpstream()
    readiness = Readiness({"predict": upstream})
    first, second = (asyncio.create_task(readiness.why_not_ready("predict")) for _ in range(2))
    await asyncio.sleep(0)
    first.cancel()
    await upstream.answers.put((200, b""))

    assert await second is None
    assert upstream.asked == 1
