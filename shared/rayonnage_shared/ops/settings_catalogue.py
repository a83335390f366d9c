"""Every setting of the platform, and the text of `.env.example`."""

from __future__ import annotations

import importlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Any

from pydantic import BaseModel, SecretStr
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from rayonnage_shared.core.processes import PROCESSES
from rayonnage_shared.core.settings import Settings
from rayonnage_shared.ops.env_file import FIRST_VALUES
from rayonnage_shared.ops.local import LocalSettings
from rayonnage_shared.ops.secret_files import SecretFileSettings
from rayonnage_shared.pipelines.data.settings import DataStageSettings
from rayonnage_shared.sync.mlflow.settings import MlflowServerSettings

_HEADER = """\
# All settings of Rayonnage with their defaults. `make run` needs no preparation: it writes .env with random secrets.
# To change a setting, copy its line without the # into .env. Environment variables take precedence over .env.
# A setting can also be read from a file with its lower-case name in /run/secrets, or in the folder SECRETS_PATH; .env
# takes precedence over these. `make env` writes such files for the containers.
# Generated from the settings classes by `make env-example`.
"""


@dataclass(frozen=True, slots=True)
class Setting:
    """One environment variable, as one or more settings classes declare it."""

    name: str
    fields: Mapping[str, FieldInfo]
    """By the name of the service (or `platform`) that declares it."""

    @property
    def secret(self) -> bool:
        """Whether its value must never be shown."""
        return any("SecretStr" in str(one.annotation) or one.annotation is SecretStr for one in self.fields.values())


def settings_classes() -> dict[str, type[Settings]]:
    """Return the settings class of each service in the process list, and those of the commands, by name."""
    found: dict[str, type[Settings]] = {}
    for process in PROCESSES:
        module = importlib.import_module(f"{process.package}.settings")
        for value in vars(module).values():
            if isinstance(value, type) and issubclass(value, Settings) and value.__module__ == module.__name__:
                found[process.package.removeprefix("rayonnage_")] = value
    found |= {"make run": LocalSettings, "make mlflow": MlflowServerSettings, "make env": SecretFileSettings}
    found |= {"rayonnage data": DataStageSettings}
    return found


def all_settings(classes: Mapping[str, type[Settings]] | None = None) -> list[Setting]:
    """Return all settings by name; shared ones come first."""
    by_name: dict[str, dict[str, FieldInfo]] = {}
    for service, settings in (classes or settings_classes()).items():
        for name, field in settings.model_fields.items():
            by_name.setdefault(name.upper(), {})[service] = field
    return [Setting(name, fields) for name, fields in by_name.items()]


def env_example(classes: Mapping[str, type[Settings]] | None = None) -> str:
    """Return the text of `.env.example`: each setting once, with its description and its default, secrets empty.

    Raises ValueError where two classes declare a setting with different defaults or descriptions.
    """
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
    field, *others = setting.fields.values()
    if any((one.default, one.description) != (field.default, field.description) for one in others):
        raise ValueError(f"{setting.name} differs between {', '.join(setting.fields)}; declare it in one shared class")
    yield f"# {field.description}"
    if setting.secret:
        made = " `make run` writes a random one to .env." if setting.name in FIRST_VALUES else ""
        yield f"# A secret: it has no default.{made}"
    default = "" if setting.secret else _shown(field.get_default(call_default_factory=True))
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
