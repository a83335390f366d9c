"""Jobs, as HTTP shows them."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Literal

from pydantic import BaseModel, Field

JobStatus = Literal["queued", "running", "succeeded", "failed", "cancelled"]
FINAL_STATUSES: frozenset[JobStatus] = frozenset({"succeeded", "failed", "cancelled"})


class Job(BaseModel):
    job_id: str
    kind: str = Field(examples=["train", "search", "drift"])
    status: JobStatus
    stage: str | None
    progress: float = Field(ge=0, le=1, description="Progress of the whole job; it never decreases.")
    message: str | None
    attempts: int
    submitted_by: str
    submitted_at: datetime
    started_at: datetime | None
    finished_at: datetime | None
    error: str | None
    log_tail: list[str]
    result: dict[str, Any] | None


class JobList(BaseModel):
    jobs: list[Job]
