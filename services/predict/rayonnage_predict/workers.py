"""The threads that predict what is too slow for the event loop, behind a queue that is bounded by time."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from prometheus_client import Gauge

from rayonnage_shared.core.errors import Overloaded
from rayonnage_shared.http.hot_routes import ClientDisconnected

IN_FLIGHT = Gauge("rayonnage_predict_in_flight", "Predict requests that run or wait for a thread.")

FIRST_GUESS_S = 0.02
"""Time that a prediction takes in a thread, until some have been measured."""
_WEIGHT = 0.1
"""Of the latest prediction in the mean time of all: the mean follows a new champion within some twenty predictions."""

T = TypeVar("T")


class Workers:
    """A pool of threads with a queue. Nobody waits longer than `max_wait_s`, and nothing is done for who has left."""

    def __init__(
        self,
        threads: int,
        max_wait_s: float,
        *,
        usual_s: float = FIRST_GUESS_S,
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        self._count = threads
        self._max_wait_s = max_wait_s
        self._usual_s = usual_s
        self._clock = clock
        self._in_flight = 0
        self._threads = ThreadPoolExecutor(threads, thread_name_prefix="predict")

    def check_room(self) -> None:
        """Raise Overloaded if a new request would probably wait for a thread longer than it may."""
        ahead = self._in_flight - self._count + 1
        if ahead > 0 and ahead * self._usual_s / self._count > self._max_wait_s:
            raise Overloaded("All threads are busy and the queue is full; try again in a second.")

    async def run(self, work: Callable[[], T], left: Callable[[], Awaitable[None]] | None = None) -> T:
        """Return what `work` returns in a thread.

        `left` returns when the caller has left. Raises Overloaded at once if there is no room, or instead of the work
        if the queue was slower than expected; ClientDisconnected if the caller leaves, whose work is then dropped from
        the queue.
        """
        self.check_room()
        queued_at = self._clock()
        self._count_in_flight(1)
        try:
            job = asyncio.get_running_loop().run_in_executor(self._threads, self._run, work, queued_at)
            return await (job if left is None else _unless(left, job))
        finally:
            self._count_in_flight(-1)

    def close(self) -> None:
        """Wait for the work under way; what still waits for a thread is cancelled."""
        self._threads.shutdown(wait=True, cancel_futures=True)

    def _run(self, work: Callable[[], T], queued_at: float) -> T:
        began = self._clock()
        if began - queued_at > self._max_wait_s:
            raise Overloaded("The queue was slower than expected; try again in a second.")
        try:
            return work()
        finally:
            self._usual_s += _WEIGHT * (self._clock() - began - self._usual_s)

    def _count_in_flight(self, change: int) -> None:
        self._in_flight += change
        IN_FLIGHT.set(self._in_flight)


async def _unless(left: Callable[[], Awaitable[None]], job: asyncio.Future[T]) -> T:
    """Return the result of `job`, or cancel it and raise ClientDisconnected when `left` returns."""
    leaving = asyncio.ensure_future(left())
    try:
        await asyncio.wait((job, leaving), return_when=asyncio.FIRST_COMPLETED)
        if not job.done():
            raise ClientDisconnected
        return job.result()
    finally:
        leaving.cancel()
        job.cancel()
