"""`.env`: how settings get their values."""

from __future__ import annotations

import os
import secrets
from collections.abc import Callable, Mapping
from pathlib import Path

from dotenv import dotenv_values

from rayonnage_shared.core.files import write_atomically
from rayonnage_shared.core.settings import secrets_folder

ENV_FILE = ".env"
ADMIN_PASSWORD = "ADMIN_PASSWORD"  # noqa: S105 - a name

FIRST_VALUES: Mapping[str, Callable[[], str]] = {
    "ADMIN_USERNAME": lambda: "admin",
    ADMIN_PASSWORD: lambda: secrets.token_urlsafe(15),
    "SECRET_KEY": lambda: secrets.token_urlsafe(48),
}

_FIRST_LINE = "# Written by `make run` and `make env`; keep it."


def effective(home: Path, environment: Mapping[str, str] | None = None) -> dict[str, str]:
    """Return the settings by upper-case name as services started in `home` read them.

    Precedence: environment, `.env`, secret files. Given an `environment`, secret files are ignored.
    """
    secret = secret_values(secrets_folder()) if environment is None else {}
    environment = os.environ if environment is None else environment
    in_file = {name.upper(): value or "" for name, value in dotenv_values(home / ENV_FILE).items()}
    return secret | in_file | {name.upper(): value for name, value in environment.items()}


def secret_values(folder: Path | None) -> dict[str, str]:
    """Return the content of secret files by upper-case name; files with a suffix are ignored."""
    files = [path for path in folder.iterdir() if path.is_file() and path.name.isidentifier()] if folder else []
    return {path.name.upper(): path.read_text(encoding="utf-8").strip() for path in files}


def complete_env_file(home: Path, environment: Mapping[str, str] | None = None) -> dict[str, str]:
    """Add missing secrets to `.env`, readable by its owner only; return the added values by name.

    Existing lines are kept; a name without a value counts as missing. A first admin from the environment or from secret
    files is written to `.env`, so that the password there works.
    """
    path = home / ENV_FILE
    environment = secret_values(secrets_folder()) | os.environ if environment is None else environment
    present = dotenv_values(path)
    added = {name: environment.get(name) or make() for name, make in FIRST_VALUES.items() if not present.get(name)}
    if not added:
        return {}
    lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else [_FIRST_LINE]
    kept = [line for line in lines if line.partition("=")[0].strip() not in added]
    content = "\n".join([*kept, *(f"{name}={_quoted(value)}" for name, value in added.items())]) + "\n"
    write_atomically(path, content.encode(), mode=0o600)
    return added


def first_admin(values: Mapping[str, str]) -> str:
    """Return the line that shows the first admin's password."""
    name, password = values["ADMIN_USERNAME"], values[ADMIN_PASSWORD]
    return f"First admin: {name}, password {password} (shown this once; see .env)"


def _quoted(value: str) -> str:
    if all(sign.isalnum() or sign in "-_./:@+" for sign in value):
        return value
    escaped = value.replace("\\", "\\\\").replace("'", "\\'")
    return f"'{escaped}'"
