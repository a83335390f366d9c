"""Two replicas of predict: a planned restart of each, and a promotion, without a failed request."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.compose.stack import Stack
from tests.e2e.test_promotion_under_load import Load
from tests.waiting import eventually

pytestmark = [pytest.mark.compose, pytest.mark.timeout(900)]


@pytest.fixture(scope="module")
def scaled(platform: Stack) -> Iterator[Stack]:
    """The stack with two of predict."""
    platform.compose(
        "up", "--detach", "--pull", "never", "--no-recreate", "--no-deps", "--scale", "predict=2", "predict"
    )
    platform.wait_until_whole(60)
    assert len(platform.containers("predict")) == 2
    yield platform
    platform.compose(
        "up", "--detach", "--pull", "never", "--no-recreate", "--no-deps", "--scale", "predict=1", "predict"
    )
    platform.wait_until_whole(60)


def answers(load: Load, wanted: int) -> bool:
    """Return whether more than so many answers have come in time, or a failure."""
    return eventually(lambda: sum(load.versions.values()) > wanted or load.failures, 60)


def test_a_rolling_restart_fails_no_request(scaled: Stack, sample: Path) -> None:
    with Load(scaled, scaled.admin_token(), (sample / "exemple.jpg").read_bytes()) as load:
        assert answers(load, 20)
        for container in scaled.containers("predict"):
            scaled.docker("restart", "--time", "10", container.id)
            scaled.wait_until_whole(60)
            assert answers(load, sum(load.versions.values()) + 20)
            assert not load.failures, load.failures[:3]
    assert not load.failures, load.failures[:3]


def test_both_replicas_answer_and_both_are_scraped(scaled: Stack, sample: Path) -> None:
    with Load(scaled, scaled.admin_token(), (sample / "exemple.jpg").read_bytes()) as load:
        assert answers(load, 200)
    assert not load.failures
    for container in scaled.containers("predict"):
        said = scaled.docker(
            *("exec", container.id, "python", "-c"),
            "import urllib.request as r; print(r.urlopen('http://127.0.0.1:8003/metrics').read().decode())",
        )
        requests = [line for line in said.splitlines() if line.startswith('http_requests_total{handler="/predict"')]
        assert sum(float(line.split()[-1]) for line in requests) > 20
