"""Problem documents (RFC 9457), in responses and in the OpenAPI schema."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import structlog
from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.openapi.utils import get_openapi
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect

from rayonnage_shared.core.disk import is_disk_full, storage_full
from rayonnage_shared.core.errors import PROBLEM_MEDIA_TYPE, BadInput, RayonnageError, problem_document
from rayonnage_shared.core.validation import Fault, faults_of
from rayonnage_shared.http.schemas import Problem

log = structlog.get_logger()

CLIENT_DISCONNECTED_STATUS = 499
"""nginx's status for a client that disconnected before its response began: for logs and metrics, nobody reads it."""

_CODES_BY_STATUS = {
    400: "bad_request",
    401: "not_authenticated",
    403: "not_allowed",
    404: "not_found",
    405: "method_not_allowed",
    413: "body_too_large",
    415: "unsupported_media_type",
    429: "too_many_requests",
}


def add_problem_documents(app: FastAPI) -> None:
    """Make every error of the application a problem document, in responses and in the schema."""
    app.add_exception_handler(RayonnageError, _render_domain_error)
    app.add_exception_handler(RequestValidationError, _render_validation_error)
    app.add_exception_handler(HTTPException, _render_http_error)
    app.add_exception_handler(ClientDisconnect, _render_disconnect)
    app.add_exception_handler(OSError, _render_os_error)
    app.openapi = lambda: _openapi_with_problems(app)  # type: ignore[method-assign]


def problems(*statuses: int) -> dict[int | str, dict[str, Any]]:
    """Return the `responses` argument of a route that may answer these statuses, and 422."""
    return {status: {"model": Problem} for status in sorted({422, *statuses})}


def problem_response(request_id: str, error: RayonnageError) -> Response:
    """Return the response for this error."""
    return _problem(problem_of(request_id, error), error.headers)


def problem_of(request_id: str, error: RayonnageError) -> dict[str, Any]:
    """Return the problem document of this error."""
    return problem_document(
        status=error.status,
        code=error.code,
        title=error.title,
        detail=error.detail,
        request_id=request_id,
        **error.extra,
    )


def invalid_input(found: Sequence[Fault]) -> BadInput:
    """Return the error for a request with these faults, at least one."""
    return BadInput(found[0].message, errors=[fault._asdict() for fault in found])


def request_id_of(request: Request) -> str:
    """Return the request id, which stands in every log line."""
    return str(request.state.request_id)


async def _render_domain_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, RayonnageError)
    if error.status >= 500 and not request.state.quiet:
        log.warning("http.request.unavailable", code=error.code, detail=error.detail)
    return problem_response(request_id_of(request), error)


async def _render_validation_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, RequestValidationError)
    return problem_response(request_id_of(request), invalid_input(faults_of(error.errors())))


async def _render_os_error(request: Request, error: Exception) -> Response:
    if not is_disk_full(error):
        raise error
    return await _render_domain_error(request, storage_full())


async def _render_disconnect(_request: Request, _error: Exception) -> Response:
    return Response(status_code=CLIENT_DISCONNECTED_STATUS)


async def _render_http_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    if isinstance(error.__cause__, ClientDisconnect):  # FastAPI makes a 400 of it when it reads the body of a route
        return await _render_disconnect(request, error)
    document = problem_document(
        status=error.status_code,
        code=_CODES_BY_STATUS.get(error.status_code, "http_error"),
        title=str(error.detail),
        detail=str(error.detail),
        request_id=request_id_of(request),
    )
    return _problem(document, error.headers or {})


def _problem(document: dict[str, Any], headers: Mapping[str, str]) -> Response:
    return Response(
        json.dumps(document, ensure_ascii=False).encode(),
        status_code=document["status"],
        media_type=PROBLEM_MEDIA_TYPE,
        headers=dict(headers),
    )


def _openapi_with_problems(app: FastAPI) -> dict[str, Any]:
    """Return the schema with errors declared as `application/problem+json`."""
    if app.openapi_schema is None:
        schema = get_openapi(title=app.title, version=app.version, description=app.description, routes=app.routes)
        for path in schema.get("paths", {}).values():
            for operation in path.values():
                _move_problems(operation.get("responses", {}))
        app.openapi_schema = schema
    return app.openapi_schema


def _move_problems(responses: dict[str, Any]) -> None:
    for status, response in responses.items():
        content = response.get("content", {})
        if status >= "400" and "application/json" in content:
            response["content"] = {PROBLEM_MEDIA_TYPE: content["application/json"]}
