"""`make env`: the containers' secrets, one file each, and the files generated from them."""

from __future__ import annotations

import base64
import json
import os
import secrets
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

from pydantic import Field, SecretStr, field_validator

from rayonnage_shared.auth.passwords import weakness
from rayonnage_shared.core.errors import BadInput
from rayonnage_shared.core.files import write_mounted
from rayonnage_shared.core.processes import EnvironmentValues
from rayonnage_shared.core.settings import OptionalSecret, Settings, is_example_secret
from rayonnage_shared.core.validation import wrong_value
from rayonnage_shared.ops.env_file import ENV_FILE, complete_env_file, effective, secret_values

FOLDER = ".secrets"
NO_SLACK = "http://127.0.0.1:9/SLACK_WEBHOOK_URL-is-not-set"
"""A URL that Alertmanager accepts, at which no server listens."""

_OF_ENV_FILE = ("admin_password", "secret_key")  # `.env` always has them
_FIRST_VALUES: Mapping[str, Callable[[], str]] = {
    "postgres_password": lambda: secrets.token_urlsafe(24),
    "redis_password": lambda: secrets.token_urlsafe(24),
    "grafana_admin_password": lambda: secrets.token_urlsafe(15),
    "dvc_access_key_id": lambda: secrets.token_hex(10),
    "dvc_secret_access_key": lambda: secrets.token_urlsafe(30),
    "slack_webhook_url": lambda: NO_SLACK,
    "airflow_admin_password": lambda: secrets.token_urlsafe(15),
    "airflow_jwt_secret": lambda: secrets.token_urlsafe(64),  # signed with HS512
    "airflow_fernet_key": lambda: base64.urlsafe_b64encode(secrets.token_bytes(32)).decode(),
    # A mounted file must exist; without such an account it is empty.
    "otel_exporter_otlp_headers": str,
    "dvc_password": str,
    "dagshub_token": str,
    "mlflow_tracking_password": str,
}
_S3_ACTIONS = ("Admin", "Read", "Write", "List", "Tagging")


class SecretFileSettings(Settings):
    """Settings of `make env`, beside those of the services; missing values are generated."""

    postgres_password: OptionalSecret = Field(None, description="Password of the containers' PostgreSQL.")
    redis_password: OptionalSecret = Field(None, description="Password of the containers' Redis.")
    grafana_admin_password: OptionalSecret = Field(None, description="Password of Grafana's user `admin`.")
    slack_webhook_url: OptionalSecret = Field(None, description="Slack webhook for alerts; empty for none.")
    airflow_admin_password: OptionalSecret = Field(None, description="Password of Airflow's user `admin`.")
    airflow_jwt_secret: OptionalSecret = Field(None, description="Secret that signs Airflow's tokens.")
    airflow_fernet_key: OptionalSecret = Field(None, description="Fernet key that encrypts Airflow's connections.")
    airflow_database_url: OptionalSecret = Field(
        None, description="Airflow's own database, postgresql+psycopg2://…; default: the containers' PostgreSQL."
    )
    retrain_password: OptionalSecret = Field(
        None, description="Password of RETRAIN_USERNAME, the user of Airflow's retraining; default: the first admin's."
    )

    @field_validator("slack_webhook_url")
    @classmethod
    def _is_an_address(cls, value: SecretStr | None) -> SecretStr | None:
        if value and not value.get_secret_value().startswith(("https://", "http://")):
            raise wrong_value("must begin with https://")
        return value


class SecretRefused(BadInput):
    code, title = "secret_refused", "A secret cannot be used"


@dataclass(frozen=True, slots=True)
class Written:
    """What was written, by name."""

    settings: Mapping[str, str]
    """Added to `.env`, with their values."""
    made: tuple[str, ...]
    changed: tuple[str, ...]


def write_secrets(home: Path) -> Written:
    """Complete `.env` and write the secret files. Existing values are kept, except those that `.env` sets.

    Raises SecretRefused, or pydantic's ValidationError, before any secret file is written.
    """
    SecretFileSettings(_env_file=home / ENV_FILE)  # raises if a value is invalid
    folder = home / FOLDER
    kept = secret_values(folder) if folder.is_dir() else {}
    added = complete_env_file(home, kept | os.environ)
    contents = secret_contents(effective(home, os.environ), kept)
    present = {name for name in contents if (folder / name).exists()}
    written = [name for name, content in contents.items() if write_mounted(folder, name, content)]
    return Written(
        added,
        made=tuple(name for name in written if name not in present),
        changed=tuple(name for name in written if name in present),
    )


def secret_contents(named: EnvironmentValues, kept: EnvironmentValues) -> dict[str, str]:
    """Return each file's content by name: from the settings, else the existing file, else random.

    Raises SecretRefused.
    """
    values = {name: named[name.upper()] for name in _OF_ENV_FILE}
    for name, make in _FIRST_VALUES.items():
        values[name] = named.get(name.upper()) or kept.get(name.upper()) or make()
    account = f"rayonnage:{_in_address(values['postgres_password'])}@postgres:5432"
    server = f"postgresql+psycopg://{account}"
    values |= {
        "database_url": _for_all_containers(named.get("DATABASE_URL")) or f"{server}/rayonnage",
        "mlflow_backend_store_uri": _for_all_containers(named.get("MLFLOW_BACKEND_STORE_URI")) or f"{server}/mlflow",
        "airflow_database_url": named.get("AIRFLOW_DATABASE_URL") or f"postgresql+psycopg2://{account}/airflow",
        "retrain_password": named.get("RETRAIN_PASSWORD") or values["admin_password"],
        "redis_url": named.get("REDIS_URL") or f"redis://:{_in_address(values['redis_password'])}@redis:6379/0",
    }
    for name, value in values.items():
        reason = _fault(name, value, named)
        if reason is not None:
            raise SecretRefused(f"{name.upper()}: {reason} Change it in .env, or in {FOLDER} if it is not in .env.")
    return values | {"redis_auth": _redis_auth(values), "s3_identities.json": _s3_identities(values)}


def _in_address(password: str) -> str:
    return quote(password, safe="")


def _for_all_containers(address: str | None) -> str | None:
    """Return None for SQLite, which is for `make run` only: containers cannot share a file."""
    return None if address is None or address.startswith("sqlite") else address


def _fault(name: str, value: str, named: EnvironmentValues) -> str | None:
    if value != value.strip() or not value.isprintable():
        return "It has surrounding spaces or non-printable characters, which some readers of secret files strip."
    if named.get("ENVIRONMENT") == "development":  # explicit: containers run in production mode
        return None
    if name == "admin_password":
        return weakness(value, named.get("ADMIN_USERNAME", ""))
    return "It is a known example value." if is_example_secret(value) else None


def _redis_auth(values: Mapping[str, str]) -> str:
    password = values["redis_password"].replace("\\", "\\\\").replace('"', '\\"')
    return f'requirepass "{password}"\n'


def _s3_identities(values: Mapping[str, str]) -> str:
    key = {"accessKey": values["dvc_access_key_id"], "secretKey": values["dvc_secret_access_key"]}
    identity = {"name": "rayonnage", "credentials": [key], "actions": _S3_ACTIONS}
    return json.dumps({"identities": [identity]}, indent=2) + "\n"
