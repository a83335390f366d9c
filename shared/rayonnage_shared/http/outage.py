"""Answer 503 with Retry-After while the database is unavailable, and 507 while its disk is full."""

from __future__ import annotations

import structlog
from fastapi import FastAPI, Request, Response
from sqlalchemy.exc import DBAPIError, InterfaceError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolExhausted

from rayonnage_shared.core.disk import storage_full
from rayonnage_shared.core.errors import DependencyDown
from rayonnage_shared.database.engine import is_database_full
from rayonnage_shared.http.problems import problem_response, request_id_of

log = structlog.get_logger()


def answer_outages(app: FastAPI) -> None:
    """Make `app` answer 503 if its database cannot be reached or takes too long, and 507 if its disk is full."""
    for kind in (OperationalError, InterfaceError, PoolExhausted):
        app.add_exception_handler(kind, _render)


async def _render(request: Request, error: Exception) -> Response:
    log.warning("database.unavailable", error=repr(error.__cause__ or error))
    if isinstance(error, DBAPIError) and is_database_full(error):
        return problem_response(request_id_of(request), storage_full())
    return problem_response(
        request_id_of(request), DependencyDown("The database is unavailable or overloaded; try again in a moment.")
    )
