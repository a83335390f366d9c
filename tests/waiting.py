"""Wait for what has to happen, instead of sleeping for as long as it usually takes."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable

PATIENCE_S = 120.0
"""A safety net, not a measure of speed: far more than anything takes on a slow machine that has other work too."""


def eventually(condition: Callable[[], object], within_s: float = PATIENCE_S, every_s: float = 0.02) -> bool:
    """Return True once the condition holds, and False when it has not held for `within_s` seconds."""
    deadline = time.monotonic() + within_s
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(every_s)
    return True


async def eventually_async(condition: Callable[[], object], within_s: float = PATIENCE_S) -> bool:
    """Do the same as `eventually`, and let other tasks run meanwhile."""
    deadline = time.monotonic() + within_s
    while not condition():
        if time.monotonic() > deadline:
            return False
        await asyncio.sleep(0.01)
    return True
