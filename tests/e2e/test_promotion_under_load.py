"""A promotion is no event for callers: predictions go on while the champion changes under them."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import httpx2
import pytest

from tests.e2e.api import finished_job, predict_form, start_training
from tests.e2e.callers import Callers
from tests.e2e.deployment import Deployment
from tests.waiting import eventually

CONNECTIONS = 6
MOVES = 6
LONGEST_ANSWER_S = 30.0
"""No caller was left alone: the gateway answers 504 after 15 s, and callers give up after 120 s."""


class Load(Callers):
    """Callers who ask for one prediction after the other, half of them with a photo, until told to stop."""

    def __init__(self, platform: Deployment, token: str, photo: bytes) -> None:
        super().__init__(CONNECTIONS)
        self.platform = platform
        self.token = token
        self.photo = photo
        self.versions: Counter[str] = Counter()
        self.failures: list[str] = []
        self.durations: list[float] = []

    def reaches(self, version: str, answers: int) -> bool:
        """Return whether more than so many answers by this version have come in time, or a failure."""
        return eventually(lambda: self.versions[version] > answers or self.failures)

    def ask(self, number: int) -> None:
        with self.platform.client(self.token) as client:
            while not self.stopping.is_set():
                began = time.monotonic()
                try:
                    if number % 2:
                        answer = predict_form(client, self.photo, designation="Robot de piscine")
                    else:
                        answer = client.post("/predict", json={"designation": "Robot de piscine"})
                except httpx2.HTTPError as error:
                    self.failures.append(repr(error))
                    continue
                self.durations.append(time.monotonic() - began)
                if answer.status_code == 200:
                    self.versions[answer.json()["model"]["version"]] += 1
                else:
                    self.failures.append(f"{answer.status_code} {answer.text}")


@pytest.fixture
def admin(platform: Deployment) -> Iterator[httpx2.Client]:
    """An admin's client; the champion is afterwards what it was before."""
    with platform.client(platform.admin_token()) as client:
        champion = client.get("/models").json()["champion"]
        yield client
        assert client.post(f"/models/{champion}/promote", json={"allow_older_data": True}).status_code == 200


def test_no_request_fails_while_the_champion_changes(platform: Deployment, admin: httpx2.Client, sample: Path) -> None:
    champion = admin.get("/models").json()["champion"]
    job = finished_job(admin, start_training(admin, "/train/text", text="tfidf-svm", promote="never"))
    challenger = job["result"]["version"]
    assert not job["result"]["promoted"]

    with Load(platform, platform.admin_token(), (sample / "exemple.jpg").read_bytes()) as load:
        assert load.reaches(champion, 2 * CONNECTIONS)
        for move in range(MOVES):
            wanted = champion if move % 2 else challenger
            path = "/models/rollback" if move % 2 else f"/models/{challenger}/promote"
            answer = admin.post(path, json={"reason": "under load", "allow_older_data": True})
            assert answer.status_code == 200, answer.text
            served = load.versions[wanted]
            assert load.reaches(wanted, served + CONNECTIONS), f"{wanted} does not serve after {path}"
            assert not load.failures, load.failures[:3]

    assert not load.failures, load.failures[:3]
    assert set(load.versions) == {champion, challenger}
    assert max(load.durations) < LONGEST_ANSWER_S
