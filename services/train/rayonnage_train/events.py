"""Server-sent events: a job, sent whenever it changes, until it has ended."""

from __future__ import annotations

import asyncio
import contextlib
import json
import time
from collections.abc import AsyncIterator, Callable, Iterator
from typing import Any

from anyio import to_thread
from fastapi.sse import format_sse_event

from rayonnage_shared.core.errors import Overloaded
from rayonnage_shared.database.engine import DATABASE_AWAY
from rayonnage_shared.jobs.queue import JobQueue
from rayonnage_shared.jobs.schemas import FINAL_STATUSES

POLL_S = 0.5
KEEP_ALIVE_S = 15.0
EVENT_NAME = "job"
EVENT_MEDIA_TYPE = "text/event-stream"
EVENT_HEADERS = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}  # the second tells nginx to pass events on

EVENT_SCHEMA: dict[str, Any] = {
    "description": "An event `job` whenever the job changes; ends when the job has ended. The first event has the "
    "whole job as its data, each later one `job_id` and the fields that have changed.",
    "content": {
        EVENT_MEDIA_TYPE: {
            "schema": {"type": "string"},
            "itemSchema": {
                "type": "object",
                "required": ["event", "id", "data"],
                "properties": {
                    "event": {"const": EVENT_NAME},
                    "id": {"type": "string", "description": "Number of the event within this stream."},
                    "data": {
                        "type": "string",
                        "contentMediaType": "application/json",
                        "contentSchema": {
                            "type": "object",
                            "required": ["job_id"],
                            "properties": {"job_id": {"type": "string"}},
                            "description": "Fields of `Job`.",
                        },
                    },
                },
            },
        }
    },
}


class EventStreams:
    """Limits how many clients stream a job's events; each costs two reads per second."""

    def __init__(self, limit: int) -> None:
        self._free = limit

    @contextlib.contextmanager
    def place(self) -> Iterator[None]:
        """Hold one of the places. Raises Overloaded."""
        if self._free <= 0:
            detail = "Too many clients stream job events; poll GET /train/jobs/{job_id} instead."
            raise Overloaded(detail, headers={"Retry-After": "10"})
        self._free -= 1
        try:
            yield
        finally:
            self._free += 1


async def job_events(
    queue: JobQueue,
    job_id: str,
    may_go_on: Callable[[], bool],
    *,
    poll_s: float = POLL_S,
    keep_alive_s: float = KEEP_ALIVE_S,
) -> AsyncIterator[bytes]:
    """Yield the job as an event, what has changed as one after every change, and a comment after a while without one.

    Ends after the job's final state, or once `may_go_on` returns False. Waits while the database is unreachable.
    """
    last: dict[str, Any] = {}
    number, said_at = 0, time.monotonic()
    while may_go_on():
        try:
            job = await to_thread.run_sync(queue.get, job_id)
        except DATABASE_AWAY:
            job = None
        document = job.model_dump(mode="json") if job else last
        changed = {name: value for name, value in document.items() if name not in last or value != last[name]}
        if changed:
            number, last, said_at = number + 1, document, time.monotonic()
            data = json.dumps({"job_id": job_id, **changed}, ensure_ascii=False)
            yield format_sse_event(data_str=data, event=EVENT_NAME, id=str(number))
        elif time.monotonic() - said_at >= keep_alive_s:
            said_at = time.monotonic()
            yield format_sse_event(comment="nothing new")
        if job and job.status in FINAL_STATUSES:
            return
        await asyncio.sleep(poll_s)
