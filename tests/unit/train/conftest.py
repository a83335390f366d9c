"""Clients of the application that a test module builds in its fixture `app`."""

from __future__ import annotations

from collections.abc import AsyncIterator

import httpx2
import pytest
from fastapi import FastAPI

from rayonnage_shared.auth.schemas import Role
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
