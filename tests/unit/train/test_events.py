"""A job's changes as server-sent events."""

from __future__ import annotations

import json
from collections.abc import AsyncIterator
from typing import Any

import pytest
from sqlalchemy import Engine
from sqlalchemy.exc import OperationalError

from rayonnage_shared.core.errors import Overloaded
from rayonnage_shared.jobs.leases import JobLeases
from rayonnage_shared.jobs.queue import JobQueue
from rayonnage_shared.jobs.rows import HeldJob
from rayonnage_shared.jobs.schemas import Job
from rayonnage_train.events import EventStreams, job_events


def always() -> bool:
    return True


def follow(queue: JobQueue, job_id: str, keep_alive_s: float = 60) -> AsyncIterator[bytes]:
    return job_events(queue, job_id, always, poll_s=0.01, keep_alive_s=keep_alive_s)


def parse(event: bytes) -> dict[str, Any]:
    """Return the fields of one event."""
    assert event.endswith(b"\n\n")
    fields = dict(line.split(": ", 1) for line in event.decode().strip().split("\n"))
    return {**fields, "data": json.loads(fields["data"])}


async def test_every_change_is_an_event_and_the_final_state_the_last(
    queue: JobQueue, leases: JobLeases, held: HeldJob
) -> None:
    events = follow(queue, held.job_id)
    first = parse(await anext(events))
    assert (first["event"], first["id"], first["data"]["status"]) == ("job", "1", "running")
    leases.report(held, stage="text", progress=0.5)
    second = parse(await anext(events))
    assert (second["id"], second["data"]["stage"], second["data"]["progress"]) == ("2", "text", 0.5)
    assert second["data"].keys() == {"job_id", "stage", "progress"}
    leases.succeed(held, {"version": "v1"})
    rest = [parse(event) async for event in events]
    assert [event["data"]["status"] for event in rest] == ["succeeded"]
    together = first["data"] | second["data"] | rest[0]["data"]
    assert together == queue.get(held.job_id).model_dump(mode="json")


async def test_silence_is_filled_with_comments(queue: JobQueue, held: HeldJob) -> None:
    events = follow(queue, held.job_id, keep_alive_s=0.02)
    await anext(events)
    assert (await anext(events)).startswith(b": ")


async def test_the_stream_ends_when_the_caller_may_not_go_on(queue: JobQueue, held: HeldJob) -> None:
    permits = iter([True, True, False])
    events = job_events(queue, held.job_id, lambda: next(permits), poll_s=0.01)
    assert len([event async for event in events]) == 1


class StumblingQueue(JobQueue):
    """A queue whose database is away the first time it is asked."""

    stumbled = False

    def get(self, job_id: str) -> Job:
        if not self.stumbled:
            self.stumbled = True
            raise OperationalError("SELECT", {}, Exception("database is locked"))
        return super().get(job_id)


async def test_a_database_that_is_away_is_waited_for(engine: Engine, held: HeldJob) -> None:
    events = follow(StumblingQueue(engine), held.job_id)
    assert parse(await anext(events))["data"]["job_id"] == held.job_id


def test_places_are_bounded_and_come_back() -> None:
    streams = EventStreams(1)
    with streams.place(), pytest.raises(Overloaded), streams.place():
        pass
    with streams.place():
        pass
