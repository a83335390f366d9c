"""All tables."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from sqlalchemy import JSON, DateTime, Dialect, TypeDecorator
from sqlmodel import Field, SQLModel


class UtcDateTime(TypeDecorator[datetime]):
    """A UTC datetime on every database; SQLite by itself would drop the time zone."""

    impl = DateTime(timezone=True)
    cache_ok = True

    def process_bind_param(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        if value is None:
            return None
        value = value.astimezone(UTC)
        return value.replace(tzinfo=None) if dialect.name == "sqlite" else value

    def process_result_value(self, value: datetime | None, dialect: Dialect) -> datetime | None:
        if value is None:
            return None
        return value.replace(tzinfo=UTC) if value.tzinfo is None else value.astimezone(UTC)


def now() -> datetime:
    """Return the current time in UTC."""
    return datetime.now(UTC)


class UserRow(SQLModel, table=True):
    __tablename__ = "users"

    username: str = Field(primary_key=True, max_length=64)
    password_hash: str = Field(max_length=256)
    role: str = Field(max_length=16)
    active: bool = True
    created_at: datetime = Field(sa_type=UtcDateTime)


class RefreshTokenRow(SQLModel, table=True):
    """A refresh token. Rotated tokens share a token family."""

    __tablename__ = "refresh_tokens"

    token_sha256: str = Field(primary_key=True, max_length=64)
    family: str = Field(index=True, max_length=32)
    username: str = Field(foreign_key="users.username", ondelete="CASCADE", index=True, max_length=64)
    access_token_id: str = Field(max_length=64, description="`jti` of the access token issued with it.")
    issued_at: datetime = Field(sa_type=UtcDateTime)
    expires_at: datetime = Field(sa_type=UtcDateTime, index=True)
    used_at: datetime | None = Field(default=None, sa_type=UtcDateTime)
    revoked_at: datetime | None = Field(default=None, sa_type=UtcDateTime)


class RevocationRow(SQLModel, table=True):
    """Revokes one access token, or all tokens issued to a user before a time; kept until those tokens expire."""

    __tablename__ = "revocations"

    id: int | None = Field(default=None, primary_key=True)
    token_id: str | None = Field(default=None, max_length=64)
    username: str | None = Field(default=None, max_length=64)
    issued_before: datetime | None = Field(default=None, sa_type=UtcDateTime)
    expires_at: datetime = Field(sa_type=UtcDateTime, index=True)


class JobRow(SQLModel, table=True):
    """A job. While `status` is running, only the holder of `lease_token` may write to it."""

    __tablename__ = "jobs"

    job_id: str = Field(primary_key=True, max_length=32)
    kind: str = Field(max_length=32, index=True)
    concurrency_group: str = Field(
        max_length=32, description="Jobs of one concurrency group never run at the same time."
    )
    request: dict[str, Any] = Field(default_factory=dict, sa_type=JSON)
    status: str = Field(default="queued", max_length=16, index=True)
    stage: str | None = Field(default=None, max_length=64)
    progress: float = 0.0
    message: str | None = Field(default=None, max_length=1000)
    attempts: int = 0
    cancel_requested: bool = False
    submitted_by: str = Field(max_length=64)
    submitted_at: datetime = Field(sa_type=UtcDateTime, index=True)
    started_at: datetime | None = Field(default=None, sa_type=UtcDateTime)
    finished_at: datetime | None = Field(default=None, sa_type=UtcDateTime)
    lease_token: str | None = Field(default=None, max_length=32)
    lease_expires_at: datetime | None = Field(default=None, sa_type=UtcDateTime)
    error: str | None = None
    log_tail: list[str] = Field(default_factory=list, sa_type=JSON)
    result: dict[str, Any] | None = Field(default=None, sa_type=JSON)


class PromotionRow(SQLModel, table=True):
    """A move of the champion pointer, recorded from the pointer, which is the source of truth."""

    __tablename__ = "promotions"

    move_id: str = Field(primary_key=True, max_length=32)
    version: str = Field(max_length=64)
    previous: str | None = Field(default=None, max_length=64)
    moved_by: str = Field(max_length=64)
    moved_at: datetime = Field(sa_type=UtcDateTime, index=True)
    reason: str = Field(max_length=1000)


class PredictionRow(SQLModel, table=True):
    """A prediction: the product as sent, the model outputs, and the user. Photos are not stored."""

    __tablename__ = "predictions"

    prediction_id: str = Field(primary_key=True, max_length=26)
    created_at: datetime = Field(sa_type=UtcDateTime, index=True)
    version: str = Field(max_length=64, description="Version of the bundle.")
    username: str = Field(max_length=64)
    request_id: str = Field(max_length=64)
    designation: str | None = Field(default=None, description="As sent; null if texts are not stored.")
    description: str | None = None
    product_identifier: str | None = Field(default=None, max_length=128)
    has_image: bool
    image_sha256: str | None = Field(default=None, max_length=64, description="SHA-256 of the photo as sent.")
    category_id: int
    confidence: float
    decision: str = Field(max_length=16)
    text_category_id: int | None = Field(default=None, description="Prediction of the text model; null if not used.")
    text_probability: float | None = None
    image_category_id: int | None = Field(default=None, description="Prediction of the photo model; null if not used.")
    image_probability: float | None = None
    duration_ms: float


class FeedbackRow(SQLModel, table=True):
    """The right category of a prediction, as a user reported it. The latest feedback wins."""

    __tablename__ = "feedback"

    prediction_id: str = Field(
        primary_key=True, foreign_key="predictions.prediction_id", ondelete="CASCADE", max_length=26
    )
    category_id: int = Field(description="The truth.")
    username: str = Field(max_length=64)
    created_at: datetime = Field(sa_type=UtcDateTime, index=True)
    demo: bool = Field(description="The model was trained on the demo catalogue.")
    ingested_in: str | None = Field(default=None, max_length=64, description="The dataset version that contains it.")
