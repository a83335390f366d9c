"""Background tasks end with their block, and an unexpected end is logged."""

from __future__ import annotations

import asyncio

import pytest
from structlog.testing import capture_logs

from rayonnage_shared.core.background import AbortOnFailure, background


async def test_the_task_runs_beside_the_block_and_is_cancelled_at_its_end() -> None:
    started, ended = asyncio.Event(), asyncio.Event()

    async def work() -> None:
        started.set()
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()

    with capture_logs() as logs:
        async with background(work()):
            await started.wait()
            assert not ended.is_set()
        assert ended.is_set()
    assert logs == []


async def test_a_task_that_is_asked_to_stop_finishes_its_work() -> None:
    stopping = asyncio.Event()
    done: list[str] = []

    async def work() -> None:
        await stopping.wait()
        await asyncio.sleep(0)
        done.append("all of it")

    async with background(work(), stop=stopping.set):
        assert done == []
    assert done == ["all of it"]


async def test_a_task_that_fails_is_logged_at_once_and_the_block_goes_on() -> None:
    failing = asyncio.Event()

    async def polls() -> None:
        failing.set()
        raise KeyError("files")

    with capture_logs() as logs:
        async with background(polls()):
            await failing.wait()
            await asyncio.sleep(0)  # the task ends, then its callback runs
            (entry,) = logs
    assert entry["event"] == "background_task.failed"
    assert entry["log_level"] == "error"
    assert entry["task"].endswith("polls")
    assert isinstance(entry["exc_info"], KeyError)
    assert len(logs) == 1


async def test_an_error_of_the_block_ends_the_task_and_is_raised() -> None:
    ended = asyncio.Event()

    async def work() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()

    with pytest.raises(ValueError, match="of the block"):
        async with background(work()):
            await asyncio.sleep(0)
            raise ValueError("of the block")
    assert ended.is_set()


class Failure(Exception):
    pass


async def fail(when: asyncio.Event) -> None:
    await when.wait()
    raise Failure


async def test_an_error_beside_a_block_ends_the_block() -> None:
    now = asyncio.Event()
    now.set()
    with pytest.raises(Failure), AbortOnFailure(fail, now):
        await asyncio.Event().wait()
    task = asyncio.current_task()
    assert task is not None and task.cancelling() == 0
    await asyncio.sleep(0)  # the cancellation is not left behind


async def test_a_block_may_be_aborted_from_outside_and_raises_the_first_error() -> None:
    first = Failure()
    with pytest.raises(Failure) as raised, AbortOnFailure(fail, asyncio.Event()) as beside:
        asyncio.get_running_loop().call_soon(beside.abort, first)
        asyncio.get_running_loop().call_soon(beside.abort, ValueError())
        await asyncio.Event().wait()
    assert raised.value is first


async def test_the_end_of_a_block_cancels_the_task_beside_it() -> None:
    with AbortOnFailure(fail, asyncio.Event()):
        await asyncio.sleep(0)
        assert len(asyncio.all_tasks()) == 2
    await asyncio.sleep(0)
    assert asyncio.all_tasks() == {asyncio.current_task()}


async def test_a_stopped_task_leaves_its_block_alone() -> None:
    with AbortOnFailure(fail, asyncio.Event()) as beside:
        await asyncio.sleep(0)
        beside.stop()
        await asyncio.sleep(0.01)
        assert asyncio.all_tasks() == {asyncio.current_task()}


async def test_an_error_in_the_block_itself_and_a_cancellation_from_outside_pass() -> None:
    with pytest.raises(ValueError, match="own"), AbortOnFailure(fail, asyncio.Event()):
        raise ValueError("own")

    async def wait_for_ever() -> None:
        with AbortOnFailure(fail, asyncio.Event()):
            await asyncio.Event().wait()

    task = asyncio.create_task(wait_for_ever())
    await asyncio.sleep(0)
    task.cancel()
    await asyncio.wait([task])
    assert task.cancelled()
