"""Ingest feedback on a schedule, through the same queue as uploads."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import structlog

from rayonnage_ingest.ingestions import Ingestions
from rayonnage_ingest.uploads import Upload
from rayonnage_shared.core.background import background
from rayonnage_shared.core.errors import RayonnageError

log = structlog.get_logger()

HOUR_S = 3600.0
SOON_S = 600.0
"""Delay of the first run, short enough for a service that is restarted daily, and of a retry after a failure."""


@asynccontextmanager
async def taking_feedback(ingestions: Ingestions, every_h: float) -> AsyncIterator[None]:
    """Ingest feedback every `every_h` hours until the block ends; 0 disables it."""
    if not every_h:
        yield
        return
    async with background(_take(ingestions, every_h * HOUR_S)):
        yield


async def _take(ingestions: Ingestions, every_s: float) -> None:
    pause_s = min(SOON_S, every_s)
    while True:
        await asyncio.sleep(pause_s)
        pause_s = every_s if await _take_once(ingestions) else min(SOON_S, every_s)


async def _take_once(ingestions: Ingestions) -> bool:
    """Return whether the ingest succeeded. A failure is logged and retried."""
    try:
        await ingestions.run(ingestions.admit(), Upload(features=None))
    except RayonnageError as error:
        log.warning("ingest.feedback.postponed", code=error.code, detail=error.detail)
    except Exception:
        log.exception("ingest.feedback.failed")
    else:
        return True
    return False
