"""`make env`: the secrets that containers read, one file each, and the files that follow from them."""

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
from rayonnage_shared.ops.env_file import ENV_FILE, complete_env_file, effective, secret_values

FOLDER = ".secrets"
NO_SLACK = "http://127.0.0.1:9/SLACK_WEBHOOK_URL-is-not-set"
"""An address that Alertmanager takes, and where nobody listens."""

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
    # A file that is mounted must be there; without such an account it is empty.
    "otel_exporter_otlp_headers": str,
    "dvc_password": str,
    "mlflow_tracking_password": str,
}
_S3_ACTIONS = ("Admin", "Read", "Write", "List", "Tagging")


class SecretFileSettings(Settings):
    """What `make env` reads beside the services' own settings; what is missing it makes."""

    postgres_password: OptionalSecret = Field(None, description="Password of the containers' PostgreSQL.")
    redis_password: OptionalSecret = Field(None, description="Password of the containers' Redis.")
    grafana_admin_password: OptionalSecret = Field(None, description="Password of Grafana's user `admin`.")
    slack_webhook_url: OptionalSecret = Field(None, description="Slack webhook that alerts go to; nowhere when empty.")
    airflow_admin_password: OptionalSecret = Field(None, description="Password of Airflow's user `admin`.")
    airflow_jwt_secret: OptionalSecret = Field(None, description="What Airflow signs its tokens with.")
    airflow_fernet_key: OptionalSecret = Field(None, description="Fernet key of what Airflow keeps of connections.")
    airflow_database_url: OptionalSecret = Field(
        None, description="Airflow's own database, postgresql+psycopg2://…; the containers' PostgreSQL when empty."
    )
    retrain_password: OptionalSecret = Field(
        None, description="Password of RETRAIN_USERNAME, as whom Airflow retrains; the first admin's when empty."
    )

    @field_validator("slack_webhook_url")
    @classmethod
    def _is_an_address(cls, value: SecretStr | None) -> SecretStr | None:
        if value and not value.get_secret_value().startswith(("https://", "http://")):
            raise ValueError("SLACK_WEBHOOK_URL begins with https://")
        return value


class SecretRefused(BadInput):
    code, title = "secret_refused", "A secret cannot be used"


@dataclass(frozen=True, slots=True)
class Written:
    """What one call has written, by name."""

    settings: Mapping[str, str]
    """Added to `.env`, with their values."""
    made: tuple[str, ...]
    changed: tuple[str, ...]


def write_secrets(home: Path) -> Written:
    """Complete `.env` and write the files of secrets; what is there stays, but what `.env` names wins.

    Raises SecretRefused, and pydantic's ValidationError, before any file of secrets is touched.
    """
    SecretFileSettings(_env_file=home / ENV_FILE)  # raises when one of them makes no sense
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
    """Return each file's content by its name, from the settings, else from what the files held, else at random.

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
            raise SecretRefused(f"{name.upper()}: {reason} Change it in .env or, if it is not there, in {FOLDER}.")
    return values | {"redis_auth": _redis_auth(values), "s3_identities.json": _s3_identities(values)}


def _in_address(password: str) -> str:
    return quote(password, safe="")


def _for_all_containers(address: str | None) -> str | None:
    """SQLite in `.env` is for `make run`: containers do not share a file."""
    return None if address is None or address.startswith("sqlite") else address


def _fault(name: str, value: str, named: EnvironmentValues) -> str | None:
    if value != value.strip() or not value.isprintable():
        return "It has spaces around it or signs that cannot be printed, which not every reader of a file keeps."
    if named.get("ENVIRONMENT") == "development":  # said in so many words: containers are production
        return None
    if name == "admin_password":
        return weakness(value, named.get("ADMIN_USERNAME", ""))
    return "This is an example value that everybody knows." if is_example_secret(value) else None


def _redis_auth(values: Mapping[str, str]) -> str:
    password = values["redis_password"].replace("\\", "\\\\").replace('"', '\\"')
    return f'requirepass "{password}"\n'


def _s3_identities(values: Mapping[str, str]) -> str:
    key = {"accessKey": values["dvc_access_key_id"], "secretKey": values["dvc_secret_access_key"]}
    identity = {"name": "rayonnage", "credentials": [key], "actions": _S3_ACTIONS}
    return json.dumps({"identities": [identity]}, indent=2) + "\n"
