"""What the gateway says of the platform's state."""

from __future__ import annotations

import json
from collections.abc import Callable

import httpx2

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
