"""Nobody outside can make series: thousands of odd requests leave as many as there were, but for a fixed number."""

from __future__ import annotations

import http.client
import random
import secrets
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from urllib.parse import quote, urlencode, urlsplit

import httpx2
import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.e2e.auth_process import auth_process
from tests.e2e.platform import Platform
from tests.waiting import PATIENCE_S

REQUESTS = 4_000
LOGINS = 50  # each costs auth tens of milliseconds, until it is throttled
CONNECTIONS = 4
# A method is known or `other` (8 values), a path is one of the templates below or `none` (6); each pair has a
# histogram of 14 series, and a counter for each of a few statuses.
NEW_SERIES_AT_MOST = 8 * 6 * (14 + 4)
# Those that the parser takes but no route has, and one that it does not know.
METHODS = ["GET", "POST", "PUT", "DELETE", "HEAD", "OPTIONS", "PATCH", "PROPFIND", "MKCOL", "PURGE", "SEARCH", "FOO"]
PATHS: list[Callable[[], str]] = [
    lambda: f"/{secrets.token_urlsafe(12)}",
    lambda: f"/models/{secrets.token_urlsafe(8)}",
    lambda: f"/models/{secrets.token_hex(4)}/figures/{secrets.token_hex(4)}.png",
    lambda: f"/train/jobs/{secrets.token_hex(8)}",
    lambda: f"/users/{quote(secrets.token_urlsafe(6))}",
    lambda: f"/predict/{secrets.token_hex(3)}?{secrets.token_hex(4)}={secrets.token_hex(4)}",
    lambda: "/predict",
    lambda: f"//{secrets.token_hex(2)}/../%00%ff",
    lambda: "/" + "a" * random.randint(1, 2000),
]


def series(url: str) -> Counter[str]:
    """Return how many series each metric has."""
    text = httpx2.get(url, timeout=PATIENCE_S).text
    return Counter(sample.name for family in text_string_to_metric_families(text) for sample in family.samples)


def odd_requests(address: str, count: int) -> Iterator[int]:
    """Send odd requests over connections that are kept while the server likes them; yield the answers' statuses."""
    parts = urlsplit(address)
    connection = http.client.HTTPConnection(parts.hostname or "", parts.port, timeout=PATIENCE_S)
    for number in range(count):
        headers = {
            "X-Request-ID": secrets.token_hex(random.randint(1, 60)),
            "User-Agent": secrets.token_hex(8),
            f"X-{secrets.token_hex(4)}": secrets.token_hex(8),
            "Authorization": f"Bearer {secrets.token_hex(10)}",
            "Host": f"{secrets.token_hex(4)}.example",
        }
        try:
            connection.request(METHODS[number % len(METHODS)], random.choice(PATHS)(), headers=headers)
            answer = connection.getresponse()
            answer.read()
            yield answer.status
        except (http.client.HTTPException, OSError):
            connection.close()
            yield 0
    connection.close()


def send_all(address: str, count: int) -> Counter[int]:
    with ThreadPoolExecutor(CONNECTIONS) as threads:
        return sum(
            threads.map(lambda _: Counter(odd_requests(address, count // CONNECTIONS)), range(CONNECTIONS)), Counter()
        )


@pytest.mark.parametrize("name", ["gateway", "predict"])
def test_odd_requests_make_no_series(platform: Platform, name: str) -> None:
    url = platform.metrics_url(name)
    before = series(url)

    statuses = send_all(platform.url(name), REQUESTS)

    after = series(url)
    assert sum(statuses.values()) == REQUESTS
    assert set(statuses) <= {0, 307, 400, 401, 404, 405}, statuses
    assert statuses[404] > REQUESTS / 10 and statuses[405] > 0, statuses
    grown = {metric: count - before[metric] for metric, count in after.items() if count > before[metric]}
    assert sum(grown.values()) <= NEW_SERIES_AT_MOST, grown
    assert {metric.removesuffix("_bucket") for metric in grown} <= {
        "http_requests_total",
        *(f"http_request_duration_seconds{part}" for part in ("", "_count", "_sum")),
    }

    send_all(platform.url(name), REQUESTS // 10)
    assert sum(series(url).values()) - sum(after.values()) <= 15, "what is new once is not new again"


def test_unknown_methods_share_a_label(platform: Platform) -> None:
    send_all(platform.url("predict"), 400)
    text = httpx2.get(platform.metrics_url("predict"), timeout=PATIENCE_S).text
    methods = {
        sample.labels["method"]
        for family in text_string_to_metric_families(text)
        if family.name == "http_requests"
        for sample in family.samples
    }
    assert "other" in methods
    assert methods <= {"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "other"}


def test_names_of_failed_logins_make_no_series(tmp_path: Path) -> None:
    with auth_process(tmp_path) as auth:
        statuses, grown = failed_logins(str(auth.base_url))

    assert set(statuses) <= {401, 429}, statuses
    assert grown <= 10


def failed_logins(address: str) -> tuple[Counter[int], int]:
    """Fail to log in under many names; return the answers' statuses, and how many series are new."""

    def log_in(_number: int) -> int:
        body = urlencode({"username": secrets.token_hex(6), "password": secrets.token_hex(6)})
        headers = {"Content-Type": "application/x-www-form-urlencoded"}
        return httpx2.post(f"{address}/token", content=body, headers=headers, timeout=PATIENCE_S).status_code

    metrics = f"{address}/metrics"
    log_in(0)
    before = series(metrics)
    with ThreadPoolExecutor(CONNECTIONS) as threads:
        statuses = Counter(threads.map(log_in, range(LOGINS)))
    return statuses, sum(series(metrics).values()) - sum(before.values())
