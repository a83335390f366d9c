"""Grafana's dashboards: the JSON is what the code makes, complete, and asks for nothing that does not exist."""

from __future__ import annotations

import ast
import functools
import json
import re
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
import yaml
from grafana_foundation_sdk.models.dashboard import Dashboard

from deployments.grafana.dashboards.__main__ import main
from deployments.grafana.dashboards.files import FOLDER, rendered
from deployments.grafana.dashboards.overview import AVAILABILITY_BUDGET, FRESHNESS_DAYS, LATENCY_BUDGET
from deployments.grafana.dashboards.panels import PROMOTIONS
from tests.monitoring.dashboard_queries import documents, metric_names, panel_queries, rows_of, variable_queries

ROOT = Path(__file__).parents[3]
GRAFANA = ROOT / "deployments" / "grafana" / "provisioning"
RULES = sorted((ROOT / "deployments" / "prometheus" / "rules").glob("*.yml"))
GUIDE = (ROOT / "docs" / "monitoring.md").read_text(encoding="utf-8")
DOCUMENTS = documents()
FROM_EXPORTERS = re.compile(
    r"up|ALERTS|scrape_duration_seconds|node_\w+|container_\w+|prometheus_tsdb_head_series"
    r"|process_(start_time_seconds|resident_memory_bytes|cpu_seconds_total|open_fds|max_fds)"
    r"|alertmanager_notifications(_failed)?_total"
)


@functools.cache
def metrics_in_code() -> re.Pattern[str]:
    """Return what matches the name of any metric that our code makes, with the endings that Prometheus' types add."""
    names = set()
    for path in [*(ROOT / "shared").rglob("*.py"), *(ROOT / "services").rglob("*.py")]:
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                names.add(re.escape(node.value))
            elif isinstance(node, ast.JoinedStr):
                parts = [one.value if isinstance(one, ast.Constant) else None for one in node.values]
                names.add("".join(r"\w+" if one is None else re.escape(str(one)) for one in parts))
    ours = sorted(name for name in names if re.fullmatch(r"(rayonnage|http)_(\w|\\w\+)+", name))
    return re.compile(rf"({'|'.join(ours)})(_total|_bucket|_sum|_count)?")


@functools.cache
def recorded() -> set[str]:
    documents = [yaml.safe_load(path.read_text(encoding="utf-8")) for path in RULES]
    return {
        rule["record"]
        for document in documents
        for group in document.get("groups", [])
        for rule in group["rules"]
        if "record" in rule
    }


def test_the_files_are_what_the_code_makes() -> None:
    there = {path.name: path.read_text(encoding="utf-8") for path in FOLDER.glob("*.json")}
    assert there == rendered(), "run `make dashboards`"


def test_writing_them_removes_what_is_no_more(tmp_path: Path) -> None:
    (tmp_path / "gone.json").write_text("{}", encoding="utf-8")
    main(tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == set(rendered())


def test_grafanas_own_model_reads_them_back_unchanged() -> None:
    for text in rendered().values():
        document = json.loads(text)
        again = Dashboard.from_json(document)
        assert (again.uid, again.title, len(again.panels or [])) == (
            document["uid"],
            document["title"],
            len(document["panels"]),
        )


def test_grafana_is_configured_with_their_folder() -> None:
    provider = yaml.safe_load((GRAFANA / "dashboards" / "rayonnage.yml").read_text(encoding="utf-8"))["providers"][0]
    grafana = yaml.safe_load((ROOT / "docker-compose.yml").read_text(encoding="utf-8"))["services"]["grafana"]
    mounted = dict(volume.split(":")[:2] for volume in grafana["volumes"])
    inside = mounted["./deployments/grafana/provisioning"]

    assert provider["options"]["path"] == f"{inside}/{FOLDER.relative_to(GRAFANA)}"
    home = grafana["environment"]["GF_DASHBOARDS_DEFAULT_HOME_DASHBOARD_PATH"]
    assert (GRAFANA / Path(home).relative_to(inside)).is_file()


def test_names_are_stable_and_belong_to_one_dashboard_each() -> None:
    assert {name: document["uid"] for name, document in DOCUMENTS.items()} == {
        "overview": "rayonnage-overview",
        "predictions": "rayonnage-predictions",
        "training": "rayonnage-training",
        "hosts": "rayonnage-hosts",
    }


@pytest.mark.parametrize("name", DOCUMENTS)
def test_every_panel_asks_the_provisioned_prometheus_and_says_what_for(name: str) -> None:
    source = yaml.safe_load((GRAFANA / "datasources" / "prometheus.yml").read_text(encoding="utf-8"))["datasources"][0]
    wanted = {"type": source["type"], "uid": source["uid"]}
    document = DOCUMENTS[name]

    assert all(variable["datasource"] == wanted for variable in document["templating"]["list"])
    assert all(annotation["datasource"] == wanted for annotation in document["annotations"]["list"])
    for _, panel in rows_of(document):
        assert panel["datasource"] == wanted, panel["title"]
        assert all(target["datasource"] == wanted for target in panel["targets"])
        assert len(panel["description"]) > 15, panel["title"]
        if panel["type"] != "table" and panel["options"].get("textMode") != "name":
            assert panel["fieldConfig"]["defaults"]["unit"], panel["title"]


@pytest.mark.parametrize("name", DOCUMENTS)
def test_panels_have_names_and_places_of_their_own(name: str) -> None:
    panels = DOCUMENTS[name]["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    assert max(Counter((row, panel["title"]) for row, panel in rows_of(DOCUMENTS[name])).values()) == 1

    taken: set[tuple[int, int]] = set()
    for place in (panel["gridPos"] for panel in panels):
        cells = {
            (x, y)
            for x in range(place["x"], place["x"] + place["w"])
            for y in range(place["y"], place["y"] + place["h"])
        }
        assert not cells & taken
        assert max(x for x, _ in cells) < 24
        taken |= cells


def test_no_line_of_panels_is_left_half_empty() -> None:
    for name, document in DOCUMENTS.items():
        widths: Counter[int] = Counter()
        for panel in document["panels"]:
            widths[panel["gridPos"]["y"]] += panel["gridPos"]["w"]
        assert set(widths.values()) == {24}, f"{name}: {widths}"


@pytest.mark.parametrize("query", panel_queries(), ids=str)
def test_each_metric_of_a_panel_exists(query: Any) -> None:
    ours, rules = metrics_in_code(), recorded()
    names = metric_names(query.expr)
    unknown = {name for name in names if not (name in rules or ours.fullmatch(name) or FROM_EXPORTERS.fullmatch(name))}
    assert names and not unknown, f"{query}: {unknown}"


def test_variables_and_the_annotation_are_of_metrics_that_exist() -> None:
    for _, metric, _ in variable_queries():
        name = metric.partition("{")[0]
        assert metrics_in_code().fullmatch(name) or FROM_EXPORTERS.fullmatch(name), name
    assert metric_names(PROMOTIONS) == {"rayonnage_champion_info"}


def test_every_variable_that_a_panel_uses_is_there_and_every_one_there_is_used() -> None:
    for name, document in DOCUMENTS.items():
        asked = {
            word
            for query in panel_queries()
            if query.dashboard == name
            for word in re.findall(r"\$([a-z]\w*)", query.expr)
        }
        assert asked == {variable["name"] for variable in document["templating"]["list"]}, name


def test_the_budgets_are_those_that_the_alerts_burn() -> None:
    rules = (ROOT / "deployments" / "prometheus" / "rules" / "slo.yml").read_text(encoding="utf-8")
    factors = dict(re.findall(r"(\w+):ratio_rate1h > 14\.4 \* ([0-9.]+)", rules))

    assert float(factors["http_requests_failed_per_request"]) == AVAILABILITY_BUDGET
    assert float(factors["http_requests_slow_per_answer"]) == LATENCY_BUDGET
    assert f"> {FRESHNESS_DAYS} * 24 * 3600" in rules


def test_metric_names_are_found_in_every_form_of_query() -> None:
    expr = (
        'histogram_quantile(0.9, sum by (le, job) (rate(a_bucket{x=~"b|c"}[$__rate_interval]))) / on (z) group_left () '
        "scalar(count(d:e:f offset 1m)) or vector(0) unless up == 1"
    )
    assert metric_names(expr) == {"a_bucket", "d:e:f", "up"}


@pytest.mark.parametrize("name", DOCUMENTS)
def test_the_guide_explains_every_dashboard_row_and_panel(name: str) -> None:
    document = DOCUMENTS[name]
    _, found, section = GUIDE.partition(f"### {document['title'].removeprefix('Rayonnage: ').capitalize()}")
    assert found, document["title"]
    section = section.partition("\n### ")[0].partition("\n## ")[0]

    missing = {title for row, panel in rows_of(document) for title in (row, panel["title"]) if title not in section}
    assert not missing


def test_the_runbook_has_an_entry_for_each_alert_that_a_panel_names() -> None:
    named = {word for text in rendered().values() for word in re.findall(r"docs/runbook\.md, ([A-Z]\w+)", text)}
    entries = set(re.findall(r"^### (\w+)", (ROOT / "docs" / "runbook.md").read_text(encoding="utf-8"), re.MULTILINE))
    assert named and named <= entries
