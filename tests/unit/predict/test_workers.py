"""Work waits for a thread within a limit of time, and none is done for who has left."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Callable

import pytest
from prometheus_client import REGISTRY

from rayonnage_predict.workers import Workers
from rayonnage_shared.core.errors import Overloaded
from rayonnage_shared.http.hot_routes import ClientDisconnected
from tests.unit.predict.shop import Gate


class Clock:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
async def make_workers() -> AsyncIterator[Callable[..., Workers]]:
    made: list[Workers] = []

    def make(threads: int = 1, max_wait_s: float = 1.0, **rest: object) -> Workers:
        made.append(Workers(threads, max_wait_s, **rest))  # type: ignore[arg-type]
        return made[-1]

    yield make
    for one in made:
        await asyncio.to_thread(one.close)


def in_flight() -> float | None:
    return REGISTRY.get_sample_value("rayonnage_predict_in_flight")


async def test_work_runs_in_a_thread_of_the_pool(make_workers: Callable[..., Workers]) -> None:
    name = await make_workers().run(lambda: threading.current_thread().name)
    assert name.startswith("predict")


async def test_an_error_of_the_work_is_raised_and_frees_its_place(make_workers: Callable[..., Workers]) -> None:
    workers = make_workers(max_wait_s=0.1, usual_s=1.0)  # room for one at a time
    for _ in range(3):
        with pytest.raises(ZeroDivisionError):
            await workers.run(lambda: 1 // 0)
    assert in_flight() == 0


async def test_who_would_wait_too_long_is_refused_at_once(make_workers: Callable[..., Workers]) -> None:
    workers, gate = make_workers(threads=1, max_wait_s=1.0, usual_s=0.5), Gate()
    tasks = [asyncio.create_task(workers.run(gate)) for _ in range(3)]
    await gate.arrival()
    assert in_flight() == 3

    with pytest.raises(Overloaded, match="queue is full") as refused:
        await workers.run(gate)  # three are ahead, half a second each
    with pytest.raises(Overloaded):
        workers.check_room()

    assert refused.value.headers["Retry-After"] == "1"
    assert not any(task.done() for task in tasks), "it did not wait for any of them"
    gate.open()
    await asyncio.gather(*tasks)
    assert (in_flight(), gate.calls) == (0, 3)


async def test_more_threads_make_room_for_more(make_workers: Callable[..., Workers]) -> None:
    workers, gate = make_workers(threads=2, max_wait_s=1.0, usual_s=0.5), Gate()
    tasks = [asyncio.create_task(workers.run(gate)) for _ in range(5)]
    await gate.arrival()
    workers.check_room()
    tasks.append(asyncio.create_task(workers.run(gate)))
    await asyncio.sleep(0)
    with pytest.raises(Overloaded):
        workers.check_room()
    gate.open()
    await asyncio.gather(*tasks)


async def test_the_usual_time_follows_what_is_measured(make_workers: Callable[..., Workers]) -> None:
    clock = Clock()
    workers = make_workers(threads=1, max_wait_s=1.0, usual_s=0.01, clock=clock)

    def slow() -> None:
        clock.now += 100.0

    await workers.run(slow)
    gate = Gate()
    task = asyncio.create_task(workers.run(gate))
    await gate.arrival()
    with pytest.raises(Overloaded):
        workers.check_room()
    gate.open()
    await task


async def test_work_that_has_waited_too_long_is_not_done(make_workers: Callable[..., Workers]) -> None:
    clock, gate = Clock(), Gate()
    workers = make_workers(threads=1, max_wait_s=1.0, usual_s=0.1, clock=clock)
    running = asyncio.create_task(workers.run(gate))
    await gate.arrival()
    late = asyncio.create_task(workers.run(gate))
    await asyncio.sleep(0)
    clock.now += 1.1
    gate.open()
    await running
    with pytest.raises(Overloaded, match="slower than expected"):
        await late
    assert gate.calls == 1


async def test_a_caller_who_leaves_the_queue_costs_nothing_more(make_workers: Callable[..., Workers]) -> None:
    workers, gate, leaving = make_workers(), Gate(), asyncio.Event()

    async def left() -> None:
        await leaving.wait()

    running = asyncio.create_task(workers.run(gate))
    await gate.arrival()
    waiting = asyncio.create_task(workers.run(gate, left))
    await asyncio.sleep(0)
    leaving.set()
    with pytest.raises(ClientDisconnected):
        await waiting
    assert in_flight() == 1
    gate.open()
    await running
    assert gate.calls == 1


async def test_who_stays_gets_the_result(make_workers: Callable[..., Workers]) -> None:
    async def stays() -> None:
        await asyncio.Event().wait()

    assert await make_workers().run(lambda: 7, stays) == 7


async def test_closing_waits_for_what_runs_and_cancels_what_waits(make_workers: Callable[..., Workers]) -> None:
    workers, gate = make_workers(), Gate()
    running, waiting = (asyncio.create_task(workers.run(gate)) for _ in range(2))
    await gate.arrival()

    closing = asyncio.create_task(asyncio.to_thread(workers.close))
    with pytest.raises(asyncio.CancelledError):
        await waiting
    assert not closing.done()
    gate.open()
    await asyncio.gather(closing, running)
