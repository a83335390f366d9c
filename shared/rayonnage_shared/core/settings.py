"""Settings that every service shares; each service adds its own class beside its code."""

from __future__ import annotations

import contextlib
import ipaddress
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar
from urllib.parse import urlsplit

from pydantic import (
    AfterValidator,
    BeforeValidator,
    Field,
    SecretStr,
    ValidationError,
    model_validator,
)
from pydantic_settings import (
    BaseSettings,
    PydanticBaseSettingsSource,
    SecretsSettingsSource,
    SettingsConfigDict,
)

from rayonnage_shared.core.errors import InvalidSetting
from rayonnage_shared.core.validation import faults_of, wrong_value

DEMO_SECRETS = frozenset({"change-me", "changeme", "secret", "password", "admin", "demo"})
MIN_SECRET_BYTES = 32

OptionalSecret = Annotated[SecretStr | None, BeforeValidator(lambda value: value or None)]
OptionalText = Annotated[str | None, BeforeValidator(lambda value: value or None)]

SECRETS_PATH = "SECRETS_PATH"
CONTAINER_SECRETS = Path("/run/secrets")

DATABASE_URLS = "sqlite:///path or postgresql+psycopg://<user>:<password>@<host>:<port>/<database>"


def _proxies(value: str) -> str:
    for one in [] if value == "*" else filter(None, value.split(",")):
        ipaddress.ip_network(one.strip())  # raises ValueError; uvicorn would silently trust nobody
    return value


def _urls(value: str) -> str:
    for one in value.split(","):
        parts = urlsplit(one.strip())
        if parts.scheme not in ("http", "https") or not parts.hostname or parts.port == 0:  # `port` raises ValueError
            raise ValueError(f"{one.strip()!r} is not a URL such as http://127.0.0.1:8003")
    return value


ServiceUrls = Annotated[str, AfterValidator(_urls)]
"""One URL, or several separated by commas."""

Proxies = Annotated[str, AfterValidator(_proxies)]
"""Addresses and networks separated by commas, or `*` for all."""


def secrets_folder() -> Path | None:
    """Return the folder with one file per secret setting: SECRETS_PATH, else /run/secrets if it exists.

    Raises InvalidSetting if SECRETS_PATH is not a folder.
    """
    named = os.environ.get(SECRETS_PATH)
    folder = Path(named) if named else CONTAINER_SECRETS
    if folder.is_dir() and os.access(folder, os.R_OK | os.X_OK):
        return folder
    if named:
        raise InvalidSetting(f"{SECRETS_PATH}={named} is not a readable folder")
    return None


class Settings(BaseSettings):
    """Settings read once, from the environment, `.env` and secret files, in this order of precedence.

    A secret file has the lower-case name of its setting and lies in `secrets_folder()`. Raises InvalidSetting.
    """

    # A validation error would otherwise print the values of all settings, including secrets.
    model_config = SettingsConfigDict(
        env_file=".env", env_file_encoding="utf-8", extra="ignore", frozen=True, hide_input_in_errors=True
    )

    def __init__(self, **values: Any) -> None:
        try:
            super().__init__(**values)
        except ValidationError as err:
            raise InvalidSetting("\n".join(_faults(err))) from None

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        # Not `secrets_dir` in model_config: that is fixed at import, and warns if the folder is missing.
        folder = secrets_folder()
        files = () if folder is None else (SecretsSettingsSource(settings_cls, folder),)
        return (init_settings, env_settings, dotenv_settings, *files)


def _faults(error: ValidationError) -> Iterator[str]:
    lines = error.errors(include_input=False, include_url=False)
    for fault in faults_of({**line, "loc": tuple(str(part).upper() for part in line["loc"])} for line in lines):
        yield fault.message


S = TypeVar("S", bound=Settings)


def read_settings(kind: type[S]) -> S:
    """Return the settings of this process; exit with a message if one is not valid."""
    try:
        return kind()
    except InvalidSetting as err:
        sys.exit(f"{err.title}: {err.detail}")


class StorageSettings(Settings):
    """Folders of models and data."""

    models_path: Path = Field(Path("models"), description="Bundles and the champion pointer.")
    data_path: Path = Field(Path("data"), description="Datasets, photos and ingest reports.")
    categories_path: Path | None = Field(
        None,
        description="JSON file {code: label} or {code: {language: label}} that replaces the built-in category names.",
    )


MEBIBYTE = 1024 * 1024


class PredictBodySettings(Settings):
    """Limit of a predict request, for the gateway and predict alike."""

    predict_max_body_bytes: int = Field(10 * MEBIBYTE, gt=0, description="Largest body of a predict request, bytes.")


class IngestBodySettings(Settings):
    """Limit of an ingest request, for the gateway and ingest alike."""

    ingest_max_body_bytes: int = Field(2048 * MEBIBYTE, gt=0, description="Largest body of an ingest request, bytes.")


class PhotoLimitSettings(Settings):
    """Limits of one photo, for ingest and predict alike."""

    max_image_bytes: int = Field(5_000_000, gt=0, description="Largest photo, bytes.")
    max_image_pixels: int = Field(25_000_000, gt=0, description="Largest photo, width × height in pixels.")


def _database_url(value: str) -> str:
    scheme, separator, _rest = value.partition("://")
    if not separator or scheme.partition("+")[0] not in ("sqlite", "postgresql", "postgres"):
        raise wrong_value(f"must be {DATABASE_URLS}")
    return value


class DatabaseSettings(Settings):
    """The database."""

    database_url: Annotated[str, AfterValidator(_database_url)] = Field(
        "sqlite:///data/rayonnage.db", description="SQLAlchemy URL: SQLite by default, or postgresql+psycopg://…"
    )


class KeyFolderSettings(Settings):
    """The folder of signing keys, for auth and the command line."""

    auth_keys_path: Path = Field(
        Path("data/keys"), description="Folder of the private keys that sign tokens; only auth needs to read it."
    )


class TokenSettings(Settings):
    """How tokens are signed and verified."""

    algorithm: Literal["ES256", "RS256", "HS256"] = Field("ES256", description="Signature of access tokens.")
    secret_key: OptionalSecret = Field(
        None, description="Shared secret of 32 bytes or more; needed only with ALGORITHM=HS256."
    )
    access_token_expire_minutes: float = Field(
        30, gt=0, le=24 * 60, description="Lifetime of an access token, minutes."
    )
    token_issuer: str = Field("rayonnage", description="`iss` of every token.")
    token_audience: str = Field("rayonnage", description="`aud` of every token.")
    auth_url: ServiceUrls = Field(
        "http://127.0.0.1:8011", description="Address of auth, from which services fetch public keys and revocations."
    )
    environment: Literal["development", "production"] = Field(
        "development", description="In production, weak secrets and example values are refused."
    )

    @model_validator(mode="after")
    def _refuse_example_secrets(self) -> TokenSettings:
        if self.environment == "development":
            return self
        for name in type(self).model_fields:
            value = getattr(self, name)
            if isinstance(value, SecretStr):
                value = value.get_secret_value()
            elif name != "database_url":  # a URL read as plain text, although it may contain a password
                continue
            if is_example_secret(value):
                raise ValueError(f"{name.upper()} is refused outside development: it is an example value")
        return self

    @model_validator(mode="after")
    def _refuse_weak_secret(self) -> TokenSettings:
        if self.algorithm != "HS256":
            return self
        secret = self.secret_key.get_secret_value() if self.secret_key else ""
        if len(secret.encode()) < MIN_SECRET_BYTES or is_example_secret(secret):
            raise ValueError("ALGORITHM=HS256 needs a random SECRET_KEY of 32 bytes or more")
        return self


class ServiceSettings(TokenSettings):
    """Settings of every HTTP service."""

    log_level: Literal["debug", "info", "warning", "error"] = Field("info", description="Log level.")
    log_format: Literal["json", "console"] = Field("json", description="Format of log lines on standard output.")
    log_to_stdout: bool = Field(True, description="Write log lines to standard output.")
    logs_path: Path | None = Field(None, description="Folder of rotating log files; empty for none.")
    log_file_max_bytes: int = Field(10_000_000, gt=0, description="Size at which a log file rotates, bytes.")
    log_file_count: int = Field(5, ge=1, description="Rotated log files kept per service.")
    otel_exporter_otlp_endpoint: OptionalText = Field(
        None, description="OTLP/HTTP endpoint of a trace collector, such as http://127.0.0.1:4318; empty for no traces."
    )
    otel_exporter_otlp_headers: OptionalSecret = Field(
        None, description="Headers for the collector, such as authorization=Bearer …, separated by commas."
    )
    otel_traces_sampler_arg: float = Field(1.0, ge=0, le=1, description="Fraction of requests that are traced.")


def is_example_secret(secret: str) -> bool:
    """Return whether this value, or the password in this URL, is a known example value."""
    if "://" in secret:
        with contextlib.suppress(
            ValueError
        ):  # not a URL after all; other checks report that without printing the value
            secret = urlsplit(secret).password or ""
    lowered = secret.lower()
    return lowered in DEMO_SECRETS or "change-me" in lowered or "changeme" in lowered
