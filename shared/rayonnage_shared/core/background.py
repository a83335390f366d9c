"""Background tasks with an owner: a task ends with its block, and an unexpected end is logged."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Coroutine

import structlog

log = structlog.get_logger()


@contextlib.asynccontextmanager
async def background(
    work: Coroutine[None, None, None], *, stop: Callable[[], object] | None = None
) -> AsyncIterator[None]:
    """Run `work` beside the block and wait for its end when the block ends.

    The end of the block calls `stop`, or cancels the task where there is none. An exception that ends the task is
    logged when it happens and does not reach the block.
    """
    task = asyncio.create_task(work)
    task.add_done_callback(_log_failure)
    try:
        yield
    finally:
        (stop or task.cancel)()
        await asyncio.wait([task])  # unlike `await task`, raises only if this task itself is cancelled


def _log_failure(task: asyncio.Task[None]) -> None:
    if not task.cancelled() and (error := task.exception()) is not None:
        work = task.get_coro()
        log.error("background_task.failed", task=getattr(work, "__qualname__", repr(work)), exc_info=error)
