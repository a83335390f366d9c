"""Every query of every dashboard, against a real Prometheus that watches a platform under load, returns data."""

from __future__ import annotations

import contextlib
import itertools
import math
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
import pytest

from deployments.grafana.dashboards.panels import PROMOTIONS
from tests.e2e.api import add_user, catalogue, finished_job, ingest, predict_form, start_training
from tests.e2e.platform import Platform, running_platform
from tests.monitoring.dashboard_queries import PanelQuery, panel_queries, substituted, variable_queries
from tests.monitoring.stack import MonitoringStack, monitoring_stack

pytestmark = [pytest.mark.monitoring, pytest.mark.timeout(900)]

PASSWORD = "correct horse battery staple"
DATA_WITHIN_S = 60
JOB_WITHIN_S = 300
ANSWERS = 150  # 100 at least are compared with the reference
RATE_LIMIT = 400  # requests a minute of one user
QUERIES = panel_queries()
VARIABLES = variable_queries()


@pytest.fixture(scope="module")
def busy(trained_volume: Path, sample: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[MonitoringStack]:
    """A watched platform in which everything has happened that a dashboard shows, and which goes on predicting."""
    folder = tmp_path_factory.mktemp("dashboards")
    settings = {"PREDICT_RATE_LIMIT": f"{RATE_LIMIT}/minute", "DVC_REMOTE_URL": str(folder / "remote")}
    with (
        running_platform(folder / "platform", settings, volume=trained_volume) as platform,
        monitoring_stack(folder / "stack", platform) as stack,
        platform.client(platform.admin_token()) as admin,
    ):
        for name in ("operator", "wild", "steady"):
            add_user(admin, name, PASSWORD)
        refused_logins(platform)
        work(platform, admin, sample)
        with steady_load(platform, sample):
            yield stack


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


def finite(series: list[dict[str, Any]]) -> list[dict[str, Any]]:
    return [one for one in series if math.isfinite(float(one["value"][1]))]


def data(stack: MonitoringStack, expr: str) -> list[dict[str, Any]]:
    """Return what the query gives, waiting for it: rates need two readings, rules a turn."""
    asked = substituted(expr, rate_interval="30s", whole="15m")
    deadline = time.monotonic() + DATA_WITHIN_S
    while not (found := finite(stack.query(asked))) and time.monotonic() < deadline:
        time.sleep(1)
    return found


@pytest.mark.parametrize("query", QUERIES, ids=str)
def test_the_query_of_a_panel_returns_data(busy: MonitoringStack, query: PanelQuery) -> None:
    if query.exporter_away is not None:
        busy.query(substituted(query.expr, rate_interval="30s", whole="15m"))  # raises where Prometheus cannot parse it
        pytest.skip(f"not run, only parsed: {query.exporter_away} cannot run here")
    assert data(busy, query.expr), query.expr
    if not query.instant:
        assert drawn(busy, query.expr), f"no curve: {query.expr}"


def drawn(stack: MonitoringStack, expr: str) -> list[Any]:
    """Return the series as Grafana draws them, over the last minute."""
    now = time.time()
    asked: dict[str, str | float] = {
        "query": substituted(expr, rate_interval="30s", whole="15m"),
        "start": now - 60,
        "end": now,
        "step": 5,
    }
    answer = stack.prometheus.get("/api/v1/query_range", params=asked)
    answer.raise_for_status()
    found: list[Any] = answer.json()["data"]["result"]
    return found


@pytest.mark.parametrize(("name", "metric", "label"), VARIABLES, ids=[name for name, _, _ in VARIABLES])
def test_a_variable_has_values_to_choose_from(busy: MonitoringStack, name: str, metric: str, label: str) -> None:
    answer = busy.prometheus.get(f"/api/v1/label/{label}/values", params={"match[]": metric})
    answer.raise_for_status()
    if metric.startswith("container_"):
        pytest.skip("not run, only parsed: cAdvisor cannot run here")
    assert answer.json()["data"], name


def test_a_promotion_is_marked_in_its_first_minute(busy: MonitoringStack) -> None:
    found = busy.query(f"max_over_time(({PROMOTIONS})[15m:5s])")
    assert len({one["metric"]["version"] for one in found}) >= 2, "the first champion, and the one trained here"
