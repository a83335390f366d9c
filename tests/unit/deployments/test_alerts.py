"""Every alert says what it is, what to do, and where to read on; and each is tried."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.monitoring.alerts import NOT_FIRED, RULES, alert_names, alerts, rule_files
from tests.monitoring.scaling import scaled

ROOT = Path(__file__).parents[3]
SEVERITIES = {"page", "ticket", "info"}


def label(rule: dict[str, Any]) -> str:
    return " ".join([rule["alert"], *rule["labels"].values()])


@pytest.mark.parametrize("rule", list(alerts()), ids=label)
def test_an_alert_has_a_severity_and_says_what_is_wrong_and_what_to_do_first(rule: dict[str, Any]) -> None:
    assert rule["labels"]["severity"] in SEVERITIES | ({"none"} if rule["alert"] == "Watchdog" else set())
    assert rule["annotations"].keys() == {"summary", "description", "runbook_url"}
    assert rule["annotations"]["summary"].endswith(".")
    assert len(rule["annotations"]["description"]) > 20


def test_each_alert_has_an_entry_in_the_runbook_and_each_entry_an_alert() -> None:
    text = (ROOT / "docs" / "runbook.md").read_text(encoding="utf-8")
    headings = re.findall(r"^### (\w+)$", text, re.MULTILINE)

    assert len(headings) == len(set(headings))
    assert set(headings) == alert_names()
    for rule in alerts():
        assert rule["annotations"]["runbook_url"] == f"docs/runbook.md#{rule['alert'].lower()}"


def test_each_link_within_the_runbook_leads_to_a_heading() -> None:
    text = (ROOT / "docs" / "runbook.md").read_text(encoding="utf-8")
    anchors = {heading.lower().replace(" ", "-") for heading in re.findall(r"^#+ (.+)$", text, re.MULTILINE)}

    assert set(re.findall(r"\]\(#([\w-]+)\)", text)) <= anchors


def test_the_promtool_tests_expect_the_annotations_of_the_rules() -> None:
    annotations: dict[str, list[dict[str, str]]] = {}
    for rule in alerts():
        annotations.setdefault(rule["alert"], []).append(rule["annotations"])
    expected = [
        (case["alertname"], name, text)
        for path in RULES.glob("*_test.yml")
        for test in yaml.safe_load(path.read_text(encoding="utf-8"))["tests"]
        for case in test.get("alert_rule_test", [])
        for alert in case["exp_alerts"]
        for name, text in alert["exp_annotations"].items()
    ]

    assert expected
    assert [
        (alert, text)
        for alert, name, text in expected
        if not any(_template(one[name]).fullmatch(text) for one in annotations[alert])
    ] == []


def _template(text: str) -> re.Pattern[str]:
    """Return what the text of an annotation matches once its `{{ … }}` are filled in."""
    parts = re.split(r"\{\{`.*?`\}\}|\{\{.*?\}\}", text)
    return re.compile(".+".join(map(re.escape, parts)))


def test_each_alert_is_fired_by_promtool() -> None:
    fired = set()
    for path in RULES.glob("*_test.yml"):
        for test in yaml.safe_load(path.read_text(encoding="utf-8"))["tests"]:
            fired |= {case["alertname"] for case in test.get("alert_rule_test", []) if case["exp_alerts"]}

    assert fired == alert_names()


def test_each_alert_is_fired_on_a_running_platform_or_named_as_one_that_cannot_be() -> None:
    text = (ROOT / "tests" / "monitoring" / "test_alerts.py").read_text(encoding="utf-8")
    fired = {name for call in re.findall(r"\.fires\(([^)]*)\)", text) for name in re.findall(r'"(\w+)"', call)}

    assert fired | NOT_FIRED.keys() == alert_names()
    assert not fired & NOT_FIRED.keys()


def test_prometheus_reads_every_file_of_rules() -> None:
    document = yaml.safe_load((RULES.parent / "prometheus.yml").read_text(encoding="utf-8"))

    assert sorted(document["rule_files"]) == [f"rules/{path.name}" for path in rule_files()]


def test_what_is_inhibited_or_routed_by_name_is_an_alert() -> None:
    text = (ROOT / "deployments" / "alertmanager" / "alertmanager.yml").read_text(encoding="utf-8")
    patterns = [pattern for found in re.findall(r'alertname =~? "?([\w|.+]+)"?', text) for pattern in found.split("|")]

    assert patterns
    for pattern in patterns:
        assert [name for name in alert_names() if re.fullmatch(pattern, name)], pattern


def test_recorded_series_are_named_by_level_metric_and_operation() -> None:
    for path in rule_files():
        for group in yaml.safe_load(path.read_text(encoding="utf-8"))["groups"]:
            for rule in group["rules"]:
                assert "alert" in rule or re.fullmatch(r"[a-z_]+:[a-z_]+:[a-z0-9_]+", rule["record"])


def test_in_scaled_rules_an_hour_is_a_minute_and_a_range_never_too_short_for_a_rate() -> None:
    assert (
        scaled("rate(a[1h]) > 10 and rate(b[5m]) > 48 * 3600") == "rate(a[60000ms]) > 10 and rate(b[5000ms]) > 48 * 60"
    )
    assert (
        scaled("for: 30m\ninterval: 1m\nrepeat_interval: 4h")
        == "for: 30000ms\ninterval: 1000ms\nrepeat_interval: 240000ms"
    )
