"""Background tasks end with their block, and an unexpected end is logged."""

from __future__ import annotations

import asyncio

import pytest
from structlog.testing import capture_logs

from rayonnage_shared.core.background import background


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
