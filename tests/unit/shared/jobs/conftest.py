"""A queue and its leases by a clock that only moves when told to."""

from __future__ import annotations

import multiprocessing
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor

import pytest
from sqlalchemy import Engine

from rayonnage_shared.jobs.leases import JobLeases
from rayonnage_shared.jobs.queue import JobQueue
from tests.unit.shared.jobs.jobs import Clock


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def queue(engine: Engine, clock: Clock) -> JobQueue:
    return JobQueue(engine, clock)


@pytest.fixture
def leases(engine: Engine, clock: Clock) -> JobLeases:
    return JobLeases(engine, clock)


@pytest.fixture(scope="module")
def pool() -> Iterator[ProcessPoolExecutor]:
    """Four processes."""
    with ProcessPoolExecutor(4, mp_context=multiprocessing.get_context("spawn")) as started:
        yield started
