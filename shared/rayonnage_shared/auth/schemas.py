"""Request and response bodies of auth: users and tokens."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, SecretStr

from rayonnage_shared.core.validation import Matching, RequestModel

Role = Literal["user", "admin"]
Username = Annotated[
    str,
    Field(min_length=2, max_length=64),
    Matching(r"^[A-Za-z0-9._@-]+$", "must consist of letters without accents, digits and . _ @ -"),
]
Password = Annotated[SecretStr, Field(min_length=10, max_length=256)]


class TokenPair(BaseModel):
    access_token: str
    token_type: Literal["bearer"] = "bearer"  # noqa: S105 - the name of the scheme
    expires_in: int = Field(description="Seconds until the access token expires.")
    refresh_token: str


class RefreshRequest(RequestModel):
    model_config = ConfigDict(json_schema_extra={"examples": [{"refresh_token": "the refresh_token of POST /token"}]})

    refresh_token: str = Field(min_length=1, max_length=512)


class User(BaseModel):
    username: str
    role: Role
    active: bool
    created_at: datetime


class NewUser(RequestModel):
    model_config = ConfigDict(
        json_schema_extra={"examples": [{"username": "camille", "password": "quatre-mots-au-hasard", "role": "user"}]},
    )

    username: Username
    password: Password
    role: Role = "user"


class UserChange(RequestModel):
    model_config = ConfigDict(json_schema_extra={"examples": [{"role": "admin"}]})

    role: Role | None = None
    active: bool | None = None
    password: Password | None = None


class PasswordChange(RequestModel):
    model_config = ConfigDict(
        json_schema_extra={
            "examples": [{"current_password": "your password", "new_password": "quatre-autres-mots-longs"}]
        },
    )

    current_password: SecretStr = Field(max_length=256)
    new_password: Password


class JsonWebKey(BaseModel):
    model_config = ConfigDict(extra="allow")

    kty: str
    kid: str
    alg: str
    use: str


class JsonWebKeys(BaseModel):
    keys: list[JsonWebKey]


class Revocation(BaseModel):
    """Revokes one token (`token_id`), or all tokens issued to a user before `issued_before` (seconds since 1970)."""

    token_id: str | None = None
    username: str | None = None
    issued_before: float | None = None


class Revocations(BaseModel):
    revocations: list[Revocation]
