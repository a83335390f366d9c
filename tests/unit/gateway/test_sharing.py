"""Two replicas of a service share its requests evenly."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Iterator

import pytest

from rayonnage_gateway.upstream import PoolLimits, Upstream
from tests.unit.gateway.servers import Conversation, Service
from tests.waiting import PATIENCE_S, eventually_async


class Replica:
    """Counts its requests, and holds them while told to."""

    def __init__(self) -> None:
        self.service = Service()
        self.service.script = self
        self.count = 0
        self.free = threading.Event()
        self.free.set()
        self._lock = threading.Lock()

    def __call__(self, conversation: Conversation) -> None:
        while True:
            conversation.read_head()
            with self._lock:
                self.count += 1
            self.free.wait(PATIENCE_S)
            conversation.answer()


@pytest.fixture
def replicas() -> Iterator[tuple[Replica, Replica]]:
    both = Replica(), Replica()
    yield both
    for replica in both:
        replica.free.set()
        replica.service.close()


@pytest.fixture
async def upstream(replicas: tuple[Replica, Replica]) -> AsyncIterator[Upstream]:
    limits = PoolLimits(connections=128, waiting=0, wait_s=1, connect_timeout_s=5, keep_alive_s=60)
    opened = Upstream("predict", ",".join(replica.service.url for replica in replicas), limits)
    opened.open()
    yield opened
    opened.close()


async def ask(upstream: Upstream) -> int:
    status, _body = await upstream.fetch("/predict", timeout_s=PATIENCE_S)
    return status


async def test_requests_one_after_another_go_to_each_in_turn(
    replicas: tuple[Replica, Replica], upstream: Upstream
) -> None:
    assert [await ask(upstream) for _ in range(40)] == [200] * 40
    assert [replica.count for replica in replicas] == [20, 20]


async def test_requests_at_the_same_time_are_halved(replicas: tuple[Replica, Replica], upstream: Upstream) -> None:
    for replica in replicas:
        replica.free.clear()
    asked = [asyncio.create_task(ask(upstream)) for _ in range(64)]
    assert await eventually_async(lambda: sum(replica.count for replica in replicas) == 64)
    assert [replica.count for replica in replicas] == [32, 32]
    for replica in replicas:
        replica.free.set()
    assert await asyncio.gather(*asked) == [200] * 64


async def test_a_busy_replica_gets_no_more_until_the_other_is_as_busy(
    replicas: tuple[Replica, Replica], upstream: Upstream
) -> None:
    slow, quick = replicas
    slow.free.clear()
    held = asyncio.create_task(ask(upstream))
    assert await eventually_async(lambda: slow.count == 1)
    assert [await ask(upstream) for _ in range(10)] == [200] * 10
    assert (slow.count, quick.count) == (1, 10)
    slow.free.set()
    assert await held == 200
    assert [await ask(upstream) for _ in range(2)] == [200, 200]
    assert (slow.count, quick.count) == (2, 11)
