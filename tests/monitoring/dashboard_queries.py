"""What the dashboards ask Prometheus, read from the JSON that Grafana is given."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

FOLDER = Path(__file__).parents[2] / "deployments" / "grafana" / "provisioning" / "dashboards" / "rayonnage"
CANNOT_RUN_HERE = {"container_": "cAdvisor", "name:container_": "cAdvisor"}
"""Exporters that need root, by how their metrics begin."""

_NOT_METRICS = frozenset({"bool", "or", "and", "unless", "inf", "nan"})


@dataclass(frozen=True)
class PanelQuery:
    """One query of one panel, or of a variable above the panels."""

    dashboard: str
    row: str
    panel: str
    expr: str
    instant: bool

    @property
    def exporter_away(self) -> str | None:
        """The exporter that cannot run here and that the query needs, or None."""
        for prefix, exporter in CANNOT_RUN_HERE.items():
            if any(name.startswith(prefix) for name in metric_names(self.expr)):
                return exporter
        return None

    def __str__(self) -> str:
        return f"{self.dashboard} / {self.row} / {self.panel}"


def documents() -> dict[str, dict[str, Any]]:
    """Return each dashboard by its file's name."""
    return {path.stem: json.loads(path.read_text(encoding="utf-8")) for path in sorted(FOLDER.glob("*.json"))}


def rows_of(document: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield each panel with the title of its row."""
    row = ""
    for panel in document["panels"]:
        if panel["type"] == "row":
            row = panel["title"]
        else:
            yield row, panel


def panel_queries() -> list[PanelQuery]:
    """Return every query of every panel."""
    return [
        PanelQuery(name, row, panel["title"], target["expr"], bool(target.get("instant")))
        for name, document in documents().items()
        for row, panel in rows_of(document)
        for target in panel["targets"]
    ]


def variable_queries() -> list[tuple[str, str, str]]:
    """Return each variable's name with the metric and the label that its values are of."""
    found = []
    for document in documents().values():
        for variable in document["templating"]["list"]:
            parts = re.fullmatch(r"label_values\((.+), (\w+)\)", variable["query"]["query"])
            assert parts is not None, variable
            found.append((variable["name"], parts[1], parts[2]))
    return found


def substituted(expr: str, *, rate_interval: str, whole: str) -> str:
    """Return the query as Grafana sends it with `All` chosen everywhere."""
    expr = expr.replace("$__rate_interval", rate_interval).replace("$__range", whole)
    return re.sub(r"\$\w+", ".*", expr)


def metric_names(expr: str) -> set[str]:
    """Return the metrics and recorded names that a query reads."""
    bare = re.sub(r'"[^"]*"', "", expr)
    bare = re.sub(r"\{[^}]*\}", " ", bare)
    bare = re.sub(r"\[[^\]]*\]", " ", bare)
    bare = re.sub(r"\b(by|without|on|ignoring|group_left|group_right)\s*\([^)]*\)", " ", bare)
    bare = re.sub(r"\boffset\s+\w+", " ", bare)
    names = re.findall(r"(?<![\w.$])([A-Za-z_:][\w:]*)(?!\s*\(|[\w:])", bare)
    return {name for name in names if name.lower() not in _NOT_METRICS}
