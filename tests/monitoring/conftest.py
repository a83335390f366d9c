"""Fixtures of the tests of the monitoring: the platform, and what watches it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.conftest import sample, trained_volume
from tests.e2e.platform import running_platform
from tests.monitoring.alerts import not_fired
from tests.monitoring.slack_story import SlackStory
from tests.monitoring.slack_story import slack_story as begin_slack_story
from tests.monitoring.stack import MonitoringStack, monitoring_stack

__all__ = ["sample", "trained_volume"]


@pytest.fixture(scope="session")
def stack(trained_volume: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[MonitoringStack]:
    """A platform with a model, watched; tests share it and must leave it as they found it."""
    folder = tmp_path_factory.mktemp("monitoring")
    with (
        running_platform(folder / "platform", volume=trained_volume) as platform,
        monitoring_stack(folder / "stack", platform) as running,
    ):
        yield running


@pytest.fixture(scope="session")
def slack_story(trained_volume: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[SlackStory]:
    """An outage of which Slack is told; it goes on while other tests run."""
    with begin_slack_story(tmp_path_factory.mktemp("outage"), trained_volume) as story:
        yield story


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Say how soon Slack was told, and name the alerts that were tried by promtool alone."""
    passed = terminalreporter.stats.get("passed", [])
    for what, value in (one for report in passed if report.when == "call" for one in report.user_properties):
        terminalreporter.line(f"{what}: {value}")
    if any("test_alerts" in report.nodeid for report in passed):
        terminalreporter.section("alerts that were not made to fire")
        for name, reason in not_fired().items():
            terminalreporter.line(f"{name}: {reason}")
