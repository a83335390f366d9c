"""Background tasks with an owner: a task ends with its block, and its failure is logged or ends the block."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from types import TracebackType
from typing import Self

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


class AbortOnFailure:
    """Runs `work` in a task beside a `with` block; an error in it cancels the block, which then raises that error.

    The end of the block cancels the task without waiting for it. Unlike `asyncio.TaskGroup`, the block raises the error
    itself and not an ExceptionGroup.
    """

    def __init__(self, work: Callable[..., Awaitable[None]], *arguments: object) -> None:
        self._work = work
        self._arguments = arguments
        self._error: Exception | None = None

    def __enter__(self) -> Self:
        block = asyncio.current_task()
        assert block is not None
        self._block = block
        self._cancelling = block.cancelling()
        self._task = asyncio.create_task(self._run())
        return self

    async def _run(self) -> None:
        try:
            await self._work(*self._arguments)
        except Exception as error:  # noqa: BLE001 - raised by the block
            self.abort(error)

    def abort(self, error: Exception) -> None:
        """Cancel the block, which then raises `error`."""
        if self._error is None:
            self._error = error
            self._block.cancel()

    def stop(self) -> None:
        """Cancel the task; the block goes on."""
        self._task.cancel()

    def __exit__(
        self, kind: type[BaseException] | None, _error: BaseException | None, _traceback: TracebackType | None
    ) -> None:
        self._task.cancel()
        del self._task  # its traceback refers to this object: the cycle would wait for the garbage collector
        if self._error is not None and self._block.uncancel() <= self._cancelling and kind is asyncio.CancelledError:
            raise self._error
