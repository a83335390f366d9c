"""Domain errors and the one form in which every error leaves the platform (RFC 9457)."""

from __future__ import annotations

from typing import Any, ClassVar

PROBLEM_MEDIA_TYPE = "application/problem+json"


class RayonnageError(Exception):
    """An expected failure with an HTTP status, a stable code and a title; `detail` tells the reader what to do next.

    `extra` members stand in the problem document beside the standard ones.
    """

    status: ClassVar[int] = 500
    code: ClassVar[str] = "internal_error"
    title: ClassVar[str] = "Something went wrong on our side"

    def __init__(self, detail: str, *, headers: dict[str, str] | None = None, **extra: Any) -> None:
        super().__init__(detail)
        self.detail = detail
        self.headers = headers or {}
        self.extra = extra

    def __reduce__(self) -> tuple[Any, ...]:
        # Errors cross process boundaries (worker → job row), and the default drops keyword arguments.
        return _rebuild, (type(self), self.detail, self.headers, self.extra)


def _rebuild(cls: type[RayonnageError], detail: str, headers: dict[str, str], extra: dict[str, Any]) -> RayonnageError:
    return cls(detail, headers=headers, **extra)


class BadInput(RayonnageError):
    status, code, title = 422, "invalid_input", "The request is not valid"


class NotFound(RayonnageError):
    status, code, title = 404, "not_found", "There is nothing here"


class Conflict(RayonnageError):
    status, code, title = 409, "conflict", "The request does not fit the present state"


class BodyTooLarge(RayonnageError):
    status, code, title = 413, "body_too_large", "The request body is too large"


class UnsupportedMedia(RayonnageError):
    status, code, title = 415, "unsupported_media_type", "This content type is not accepted here"


class NotAuthenticated(RayonnageError):
    status, code, title = 401, "not_authenticated", "A valid bearer token is needed"

    def __init__(self, detail: str, *, headers: dict[str, str] | None = None, **extra: Any) -> None:
        super().__init__(detail, headers={"WWW-Authenticate": "Bearer"} | (headers or {}), **extra)


class NotAllowed(RayonnageError):
    status, code, title = 403, "not_allowed", "Your role does not allow this"


class TooManyRequests(RayonnageError):
    status, code, title = 429, "too_many_requests", "Too many requests"


class Overloaded(RayonnageError):
    status, code, title = 503, "overloaded", "The service is at capacity"

    def __init__(self, detail: str, *, headers: dict[str, str] | None = None, **extra: Any) -> None:
        super().__init__(detail, headers={"Retry-After": "1"} | (headers or {}), **extra)


class DependencyDown(RayonnageError):
    status, code, title = 503, "dependency_unavailable", "A part of the platform is unavailable"

    def __init__(self, detail: str, *, headers: dict[str, str] | None = None, **extra: Any) -> None:
        super().__init__(detail, headers={"Retry-After": "2"} | (headers or {}), **extra)


class InvalidSetting(RayonnageError):
    """One or more settings are not valid; `detail` has a line for each, which names the variable."""

    code, title = "invalid_setting", "A setting is not valid"


def problem_document(
    *, status: int, code: str, title: str, detail: str, request_id: str, **extra: Any
) -> dict[str, Any]:
    """Return the RFC 9457 members plus `code`, `request_id` and whatever `extra` holds."""
    return {
        "type": f"urn:rayonnage:problem:{code}",
        "title": title,
        "status": status,
        "detail": detail,
        "code": code,
        "request_id": request_id,
        **extra,
    }
