"""Response bodies of every service."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field


class FieldError(BaseModel):
    field: str
    message: str


class Problem(BaseModel):
    """An error (RFC 9457) with a stable code, and the request id to search for in the logs."""

    model_config = ConfigDict(extra="allow")

    type: str = Field(examples=["urn:rayonnage:problem:not_found"])
    title: str
    status: int
    detail: str
    code: str
    request_id: str
    errors: list[FieldError] | None = None


class Health(BaseModel):
    status: str = Field(examples=["ok"])
    dependencies: dict[str, str] = Field(description="The state of each dependency.")


class Welcome(BaseModel):
    message: str


class Status(BaseModel):
    status: str = Field(examples=["L'API fonctionne correctement"])
