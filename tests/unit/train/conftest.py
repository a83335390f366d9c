"""Clients of the application that a test module builds in its fixture `app`, and a job queue with a claimed job."""

from __future__ import annotations

from collections.abc import AsyncIterator

import httpx2
import pytest
from fastapi import FastAPI
from sqlalchemy import Engine

from rayonnage_shared.auth.schemas import Role
from rayonnage_shared.jobs.leases import JobLeases
from rayonnage_shared.jobs.queue import JobQueue
from rayonnage_shared.jobs.rows import HeldJob
from tests.tokens import bearer


def client_of(app: FastAPI, role: Role) -> httpx2.AsyncClient:
    transport = httpx2.ASGITransport(app)
    return httpx2.AsyncClient(transport=transport, base_url="http://train", headers=bearer("claire", role))


@pytest.fixture
async def admin(app: FastAPI) -> AsyncIterator[httpx2.AsyncClient]:
    async with client_of(app, "admin") as client:
        yield client


@pytest.fixture
async def user(app: FastAPI) -> AsyncIterator[httpx2.AsyncClient]:
    async with client_of(app, "user") as client:
        yield client


@pytest.fixture
def queue(engine: Engine) -> JobQueue:
    return JobQueue(engine)


@pytest.fixture
def leases(engine: Engine) -> JobLeases:
    return JobLeases(engine)


@pytest.fixture
def held(queue: JobQueue, leases: JobLeases) -> HeldJob:
    queue.submit("train", {}, by="claire", concurrency_group="models")
    claimed = leases.claim(["train"], 60)
    assert claimed is not None
    return claimed
