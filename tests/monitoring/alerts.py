"""The list of alerts, read from the rules, and those of them that a test cannot make fire."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from tests.monitoring.host import may_mount

RULES = Path(__file__).parents[2] / "deployments" / "prometheus" / "rules"

_CADVISOR = "cAdvisor, which tells of containers, needs root and a Docker engine"
NOT_FIRED = {
    "ContainerRestarting": _CADVISOR,
    "ContainerOutOfMemory": _CADVISOR,
    "ContainerMemoryHigh": _CADVISOR,
}
"""Alerts that promtool alone tries, wherever the tests run, with the reason."""

_DISK = "a disk that may be filled cannot be mounted here"
NEED_A_MOUNT = {"HostDiskFull": _DISK, "HostDiskFilling": _DISK}
"""Alerts that promtool alone tries where a process may not be given a disk of its own."""


def rule_files() -> list[Path]:
    """Return the files of rules, without their tests."""
    return sorted(path for path in RULES.glob("*.yml") if not path.stem.endswith("_test"))


def alerts() -> Iterator[dict[str, Any]]:
    """Yield every alert as it stands in the rules; some names stand there several times."""
    for path in rule_files():
        for group in yaml.safe_load(path.read_text(encoding="utf-8"))["groups"]:
            yield from (rule for rule in group["rules"] if "alert" in rule)


def alert_names() -> set[str]:
    """Return the names of all alerts."""
    return {rule["alert"] for rule in alerts()}


def not_fired() -> dict[str, str]:
    """Return the alerts that are not made to fire on this machine, with the reason."""
    return NOT_FIRED if may_mount() else NOT_FIRED | NEED_A_MOUNT
