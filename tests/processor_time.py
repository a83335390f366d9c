"""How much work something is, whatever the machine's speed and whatever else runs there."""

from __future__ import annotations

import time
from collections.abc import Callable

ROUNDS = 5


def relative_cost(work: Callable[[], object], rounds: int = ROUNDS) -> float:
    """Return the processor time of `work` as a multiple of a fixed piece of Python, about 1 ms; the least of rounds."""
    return _least(work, rounds) / _least(_yardstick, ROUNDS)


def _yardstick() -> int:
    return sum(number * number for number in range(20_000))


def _least(work: Callable[[], object], rounds: int) -> float:
    times = []
    for _ in range(rounds):
        started = time.process_time()
        work()
        times.append(time.process_time() - started)
    return min(times)
