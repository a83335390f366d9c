"""`.env` and `.env.example`: how settings get their values, and the list of all there are."""

from __future__ import annotations

import importlib
import json
import os
import secrets
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import Any

from dotenv import dotenv_values
from pydantic import BaseModel, SecretStr
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from rayonnage_shared.atomic_files import write_atomically
from rayonnage_shared.processes import PROCESSES
from rayonnage_shared.settings import MlflowServerSettings, Settings, secrets_folder

ENV_FILE = ".env"
ADMIN_PASSWORD = "ADMIN_PASSWORD"  # noqa: S105 - a name

_FIRST_VALUES: Mapping[str, Callable[[], str]] = {
    "ADMIN_USERNAME": lambda: "admin",
    ADMIN_PASSWORD: lambda: secrets.token_urlsafe(15),
    "SECRET_KEY": lambda: secrets.token_urlsafe(48),
}

_FIRST_LINE = "# Written by `make run` and `make env`; keep it."

_HEADER = """\
# Every setting of Rayonnage. `make run` needs no file: it writes .env with random secrets, and what .env does not
# name has its default. To change one, put its line, without the #, into .env; the environment wins over .env.
# A setting may also stand in a file of its own, named in small letters, in /run/secrets or in the folder that the
# environment variable SECRETS_PATH names; .env wins over those. `make env` writes such files for the containers.
# Made from the settings classes by `make env-example`.
"""


def effective(home: Path, environment: Mapping[str, str] | None = None) -> dict[str, str]:
    """Return the settings by upper-case name as services that run in `home` see them.

    The environment wins over `.env`, which wins over files of secrets; given an `environment`, those are not looked at.
    """
    secret = secret_values(secrets_folder()) if environment is None else {}
    environment = os.environ if environment is None else environment
    in_file = {name.upper(): value or "" for name, value in dotenv_values(home / ENV_FILE).items()}
    return secret | in_file | {name.upper(): value for name, value in environment.items()}


def secret_values(folder: Path | None) -> dict[str, str]:
    """Return what the files of a folder of secrets hold, by upper-case name; those with a suffix are no settings."""
    files = [path for path in folder.iterdir() if path.is_file() and path.name.isidentifier()] if folder else []
    return {path.name.upper(): path.read_text(encoding="utf-8").strip() for path in files}


def complete_env_file(home: Path, environment: Mapping[str, str] | None = None) -> dict[str, str]:
    """Give `.env` the secrets that it lacks, readable by its owner alone; return what was added, by name.

    Lines that are there stay as they are; a name without a value counts as lacking. A first admin named in the
    environment, or in files of secrets, is written down as such, so that what is in `.env` opens the platform.
    """
    path = home / ENV_FILE
    environment = secret_values(secrets_folder()) | os.environ if environment is None else environment
    present = dotenv_values(path)
    added = {name: environment.get(name) or make() for name, make in _FIRST_VALUES.items() if not present.get(name)}
    if not added:
        return {}
    lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else [_FIRST_LINE]
    kept = [line for line in lines if line.partition("=")[0].strip() not in added]
    content = "\n".join([*kept, *(f"{name}={_quoted(value)}" for name, value in added.items())]) + "\n"
    write_atomically(path, content.encode(), mode=0o600)
    return added


def first_admin(values: Mapping[str, str]) -> str:
    """Return the sentence that shows the first admin's password."""
    name, password = values["ADMIN_USERNAME"], values[ADMIN_PASSWORD]
    return f"First admin: {name}, password {password} (shown this once; see .env)"


def _quoted(value: str) -> str:
    if all(sign.isalnum() or sign in "-_./:@+" for sign in value):
        return value
    escaped = value.replace("\\", "\\\\").replace("'", "\\'")
    return f"'{escaped}'"


@dataclass(frozen=True, slots=True)
class Setting:
    """One environment variable, as one or more settings classes declare it."""

    name: str
    fields: Mapping[str, FieldInfo]
    """By the name of the service (or `platform`) that declares it."""

    @property
    def secret(self) -> bool:
        """Whether its value must never be shown or shipped."""
        return any("SecretStr" in str(one.annotation) or one.annotation is SecretStr for one in self.fields.values())


def settings_classes() -> dict[str, type[Settings]]:
    """Return the settings class of each service by its name, found from the process list, and the platform's own."""
    from rayonnage_shared.local import LocalSettings
    from rayonnage_shared.secret_files import SecretFileSettings

    found: dict[str, type[Settings]] = {}
    for process in PROCESSES:
        module = importlib.import_module(f"{process.package}.settings")
        for value in vars(module).values():
            if isinstance(value, type) and issubclass(value, Settings) and value.__module__ == module.__name__:
                found[process.package.removeprefix("rayonnage_")] = value
    found |= {"make run": LocalSettings, "make mlflow": MlflowServerSettings, "make env": SecretFileSettings}
    return found


def all_settings(classes: Mapping[str, type[Settings]] | None = None) -> list[Setting]:
    """Return every setting by name; those that several services read come first."""
    by_name: dict[str, dict[str, FieldInfo]] = {}
    for service, settings in (classes or settings_classes()).items():
        for name, field in settings.model_fields.items():
            by_name.setdefault(name.upper(), {})[service] = field
    return [Setting(name, fields) for name, fields in by_name.items()]


def env_example(classes: Mapping[str, type[Settings]] | None = None) -> str:
    """Return the text of `.env.example`: each setting once, with its description and its default, secrets empty."""
    groups: dict[str, list[Setting]] = {}
    for setting in all_settings(classes):
        services = list(setting.fields)
        groups.setdefault(services[0] if len(services) == 1 else "several services", []).append(setting)
    first = ["several services", *(name for name in groups if name != "several services")]
    lines = [_HEADER]
    for group in first:
        if group in groups:
            lines.append(f"# ---- {group} ----\n")
            lines.extend(line for setting in groups[group] for line in _example_lines(setting))
    return "\n".join(lines)


def _example_lines(setting: Setting) -> Iterator[str]:
    descriptions: dict[str, list[str]] = {}
    defaults = {_shown(field.get_default(call_default_factory=True)) for field in setting.fields.values()}
    for service, field in setting.fields.items():
        text = field.description or ""
        if len(defaults) > 1:
            text += f" Default: {_shown(field.get_default(call_default_factory=True)) or 'empty'}."
        descriptions.setdefault(text, []).append(service)
    for text, services in descriptions.items():
        yield f"# {text}" if len(descriptions) == 1 else f"# {', '.join(services)}: {text}"
    if setting.secret:
        made = " `make run` writes a random one to .env." if setting.name in _FIRST_VALUES else ""
        yield f"# A secret: it has no default.{made}"
    default = "" if setting.secret or len(defaults) > 1 else defaults.pop()
    yield f"#{setting.name}={default}\n"


def _shown(default: Any) -> str:
    if default is None or default is PydanticUndefined:
        return ""
    if isinstance(default, bool):
        return str(default).lower()
    if isinstance(default, Enum):
        return str(default.value)
    if isinstance(default, (list, tuple, dict, set, frozenset)):
        return json.dumps(list(default) if not isinstance(default, dict) else default)
    if isinstance(default, (SecretStr, BaseModel)):
        return ""
    return str(default)
