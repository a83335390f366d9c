"""The list of alerts, read from the rules, and those of them that no test can make fire."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

RULES = Path(__file__).parents[2] / "deployments" / "prometheus" / "rules"

_CADVISOR = "cAdvisor, which tells of containers, needs root and a Docker engine"
NOT_FIRED = {
    "ContainerRestarting": _CADVISOR,
    "ContainerOutOfMemory": _CADVISOR,
    "ContainerMemoryHigh": _CADVISOR,
    "HostDiskFull": "a disk that may be filled needs root to be mounted",
    "HostDiskFilling": "a disk that may be filled needs root to be mounted",
    "HostMemoryLow": "a host without memory would end the tests, and others' work",
    "HostOutOfMemory": "a host without memory would end the tests, and others' work",
}
"""Alerts by name, with the reason why they were tried by promtool alone."""


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
