"""Ten predictions a minute for each user, whatever door they come by."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import httpx2
import pytest
from prometheus_client import REGISTRY

from rayonnage_gateway.rate_limit import InMemoryCounters
from rayonnage_gateway.routes import PUBLIC_ROUTES, PublicRoute
from rayonnage_gateway.settings import GatewaySettings
from rayonnage_shared.core.errors import InvalidSetting
from tests.tokens import bearer
from tests.unit.gateway.servers import Gateway, Service, reached, running
from tests.waiting import PATIENCE_S

DOORS = ("/predict", "/predict/text/manual", "/predict/image/manual")


@pytest.fixture
def limited(service: Service) -> Iterator[Gateway]:
    urls = {f"{name}_url": service.url for name in ("auth", "ingest", "train", "predict")}
    with running(predict_rate_limit="3/minute", **urls) as gateway:
        yield gateway


def hits() -> float:
    return REGISTRY.get_sample_value("rayonnage_rate_limit_hits_total") or 0.0


def test_the_three_routes_share_one_bucket_for_each_user(limited: Gateway) -> None:
    before = hits()
    with httpx2.Client(base_url=limited.url, timeout=PATIENCE_S) as client:
        assert [client.post(door, headers=bearer("ada")).status_code for door in DOORS] == [200, 200, 200]
        refused = [client.post(door, headers=bearer("ada")) for door in DOORS]
        assert [answer.status_code for answer in refused] == [429] * 3
        assert client.post("/predict", headers=bearer("bob")).status_code == 200
    assert hits() == before + 3
    answer = refused[0]
    assert answer.headers["content-type"] == "application/problem+json"
    assert 1 <= int(answer.headers["retry-after"]) <= 60
    document = answer.json()
    assert (document["code"], document["limit"]) == ("too_many_requests", "3 per 1 minute")
    assert str(document["retry_after_s"]) == answer.headers["retry-after"]


@pytest.mark.parametrize("route", PUBLIC_ROUTES, ids=lambda route: f"{route.method} {route.path}")
def test_the_limit_is_that_of_every_prediction_route_and_of_no_other(limited: Gateway, route: PublicRoute) -> None:
    path = re.sub(r"\{\w+\}", "some-id", route.path)
    user = f"{route.method}-{route.path}"  # each route has a bucket of its own here
    with httpx2.Client(base_url=limited.url) as client:
        codes = [client.request(route.method, path, headers=bearer(user, role="admin")).status_code for _ in range(4)]
    assert codes == [200, 200, 200, 429 if route.path.startswith("/predict") else 200]


def test_another_token_header_case_or_query_is_no_new_bucket(limited: Gateway) -> None:
    with httpx2.Client(base_url=limited.url, timeout=PATIENCE_S) as client:
        codes = [
            client.post(
                f"/predict?n={number}",
                headers={
                    "Authorization": bearer("ada")["Authorization"].replace("Bearer", ("bearer", "BEARER")[number % 2]),
                    "X-Forwarded-For": f"10.0.0.{number}",
                },
            ).status_code
            for number in range(5)
        ]
    assert codes == [200, 200, 200, 429, 429]


def test_who_is_not_let_in_uses_up_nothing_and_other_routes_are_not_counted(limited: Gateway) -> None:
    with httpx2.Client(base_url=limited.url, timeout=PATIENCE_S) as client:
        for _ in range(5):
            assert client.post("/predict", headers={"Authorization": "Bearer x"}).status_code == 401
            assert client.get("/info", headers=bearer("ada")).status_code == 200
        assert client.post("/predict", headers=bearer("ada")).status_code == 200


def test_no_limit_is_possible(client: httpx2.Client) -> None:
    assert [client.post("/predict").status_code for _ in range(15)] == [200] * 15


def test_the_limit_is_not_to_be_switched_off_from_beside(
    service: Service, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / ".env").write_text("RATELIMIT_ENABLED=false\nRATELIMIT_STORAGE_URL=nonsense://\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("RATELIMIT_ENABLED", "false")
    with reached(predict_url=service.url, predict_rate_limit="1/minute") as client:
        assert [client.post("/predict").status_code for _ in range(2)] == [200, 429]


def test_while_redis_is_away_each_gateway_counts_by_itself(service: Service) -> None:
    away = "redis://127.0.0.1:1/0"
    with reached(predict_url=service.url, predict_rate_limit="2/minute", redis_url=away) as client:
        assert [client.post("/predict").status_code for _ in range(3)] == [200, 200, 429]


@pytest.mark.parametrize("value", ["off", ""])
def test_off_and_empty_mean_no_limit(value: str) -> None:
    assert GatewaySettings(_env_file=None, predict_rate_limit=value).predict_rate_limit is None


def test_a_limit_that_cannot_be_read_is_refused_at_start() -> None:
    with pytest.raises(InvalidSetting):
        GatewaySettings(_env_file=None, predict_rate_limit="ten a minute")


def test_counts_start_again_when_their_time_is_over() -> None:
    counts = InMemoryCounters("in-memory-counters://")
    assert [counts.incr("ada", 60), counts.incr("ada", 60), counts.incr("bob", 60)] == [1, 2, 1]
    assert counts.get("ada") == 2
    counts.incr("eve", -1)
    assert counts.get("eve") == 0
    assert counts.incr("eve", 60) == 1


def test_old_counts_are_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("rayonnage_gateway.rate_limit._MAX_COUNTS", 10)
    counts = InMemoryCounters("in-memory-counters://")
    for number in range(10):
        counts.incr(f"old-{number}", -1)
    counts.incr("new", 60)
    assert counts.reset() == 1
