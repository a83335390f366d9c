"""A database that is away or too busy is an outage for the caller, not a bug: 503 with Retry-After."""

from __future__ import annotations

import structlog
from fastapi import FastAPI, Request, Response
from sqlalchemy.exc import InterfaceError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolExhausted

from rayonnage_shared.core.errors import DependencyDown
from rayonnage_shared.http.problems import problem_response, request_id_of

log = structlog.get_logger()


def answer_outages(app: FastAPI) -> None:
    """Make `app` answer 503 where its database cannot be reached, or its lock or a connection took too long."""
    for kind in (OperationalError, InterfaceError, PoolExhausted):
        app.add_exception_handler(kind, _render)


async def _render(request: Request, error: Exception) -> Response:
    log.warning("database.unavailable", error=repr(error.__cause__ or error))
    return problem_response(
        request_id_of(request), DependencyDown("The database is away or too busy; try again in a moment.")
    )
