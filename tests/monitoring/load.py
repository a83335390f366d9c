"""Everything that a dashboard shows, made to happen: predictions, refusals, feedback, jobs, drift and new products."""

from __future__ import annotations

import contextlib
import itertools
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2

from tests.e2e.api import add_user, catalogue, finished_job, ingest, predict_form, start_training
from tests.e2e.platform import Platform

PASSWORD = "correct horse battery staple"
JOB_WITHIN_S = 300
ANSWERS = 150  # 100 at least are compared with the reference
RATE_LIMIT = 400
"""Requests a minute of one user, as the platform must be told."""


def make_users(admin: httpx2.Client) -> None:
    """Add those who ask: one with feedback, one who asks too often, one who goes on."""
    for name in ("operator", "wild", "steady"):
        add_user(admin, name, PASSWORD)


def refused_logins(platform: Platform) -> None:
    """Log in with a wrong password, and as somebody who does not exist."""
    with platform.client() as nobody:
        for username in ("operator", "nobody"):
            answer = nobody.post("/token", data={"username": username, "password": "wrong"})
            assert answer.status_code == 401


def work(platform: Platform, admin: httpx2.Client, sample: Path) -> None:
    """Predict, give feedback, look for drift, train, ingest, and ask too often."""
    products = catalogue(sample, 0, ANSWERS)
    with platform.client(platform.token("operator", PASSWORD)) as operator:
        for place, row in enumerate(products.rows):
            # Without descriptions, and photos for a few only: the report will say so, and an alert will fire.
            photo = next(iter(products.photos.values())) if place % 10 == 0 else None
            answer = predict_form(operator, photo, designation=row["designation"])
            assert answer.status_code == 200, answer.text
            if place % 4 == 0:
                said = {"prediction_id": answer.json()["prediction_id"], "category_id": int(row["prdtypecode"])}
                assert feedback(operator, said).is_success
    with platform.client(platform.token("wild", PASSWORD)) as wild:
        statuses = [wild.post("/predict", json={"designation": "Piscine"}).status_code for _ in range(RATE_LIMIT + 5)]
        assert 429 in statuses
    asked = admin.post("/drift", json={"hours": 1})
    assert asked.status_code == 202, asked.text
    finished_job(admin, asked.json()["job_id"], JOB_WITHIN_S)
    finished_job(admin, start_training(admin, "/train/text", text="tfidf-svm", promote="always"), JOB_WITHIN_S)
    some = catalogue(sample, 0, 60)
    assert ingest(admin, some.labelled, images=some.images).status_code == 201


def feedback(client: httpx2.Client, said: dict[str, Any]) -> httpx2.Response:
    """Tell the truth about a prediction; its row is written within a second."""
    deadline = time.monotonic() + 30
    while (answer := client.post("/feedback", json=said)).status_code == 404 and time.monotonic() < deadline:
        time.sleep(0.2)
    return answer


@contextlib.contextmanager
def steady_load(platform: Platform, sample: Path) -> Iterator[None]:
    """Keep predicting, and be refused now and then, until the block ends: a rate needs something going on."""
    over = threading.Event()
    photos = list(catalogue(sample, 0, 20).photos.values())

    def ask() -> None:
        with platform.client(platform.token("steady", PASSWORD)) as client:
            for photo in itertools.cycle(photos):
                if over.wait(0.3):
                    return
                predict_form(client, photo, designation="Coussin rouge pour canapé")

    thread = threading.Thread(target=ask)
    thread.start()
    try:
        yield
    finally:
        over.set()
        thread.join(60)
