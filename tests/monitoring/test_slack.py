"""What Slack gets: when, in which words, and what it is spared."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.monitoring.slack import Message
from tests.monitoring.slack_story import PAGED_WITHIN_S, RESOLVED_WITHIN_S, Outage, SlackStory
from tests.monitoring.stack import DEPLOYMENTS, binary

pytestmark = [pytest.mark.monitoring, pytest.mark.timeout(600)]

CONFIGURATION = DEPLOYMENTS / "alertmanager" / "alertmanager.yml"


@pytest.fixture(scope="module")
def outage(slack_story: SlackStory) -> Outage:
    return slack_story.outage()


def of(outage: Outage, name: str, *, resolved: bool = False) -> list[Message]:
    return [one for one in outage.messages if name in one.title and one.resolved == resolved]


def test_a_process_that_is_killed_pages_within_two_minutes_and_its_return_is_reported(
    outage: Outage, record_property: Callable[[str, object], None]
) -> None:
    record_property("Slack paged after", f"{outage.paged_after_s:.0f} s")
    record_property("Slack told of the end after", f"{outage.resolved_after_s:.0f} s")
    assert outage.paged_after_s < PAGED_WITHIN_S
    assert outage.resolved_after_s < RESOLVED_WITHIN_S
    assert len(of(outage, "ProcessDown")) == len(of(outage, "ProcessDown", resolved=True)) == 1
    assert not outage.faults


def test_a_message_says_what_since_when_how_bad_and_where_to_read_on(outage: Outage) -> None:
    (message,) = of(outage, "ProcessDown")

    assert message.title == "🔥 ProcessDown predict"
    assert re.search(
        r"^• predict \(127\.0\.0\.1:\d+\) does not answer Prometheus\. Since \d\d:\d\d:\d\d UTC\.$", message.text, re.M
    )
    assert "docker compose logs --tail 50 predict" in message.text
    assert message.fields["Severity"] == "page"
    assert re.fullmatch(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d UTC", message.fields["Since"])
    assert message.fields["Runbook"] == "docs/runbook.md#processdown"
    assert message.color == "danger"
    assert "/#/silences/new?filter=%7Balertname%3D%22ProcessDown%22%2C" in message.actions["Silence"]
    assert "/graph?g0.expr=up" in message.actions["Query"]
    assert "/#/alerts?receiver=slack" in message.title_link


def test_the_end_is_a_message_of_its_own(outage: Outage) -> None:
    (message,) = of(outage, "ProcessDown", resolved=True)

    assert message.title == "✅ Resolved: ProcessDown predict"
    assert re.search(r"^• Over at \d\d:\d\d:\d\d UTC: predict ", message.text, re.M)
    assert message.color == "good"


def test_two_alerts_of_one_name_are_one_message(outage: Outage) -> None:
    (message,) = of(outage, "HostDiskFull")

    assert message.title == "🔥 HostDiskFull (2 of 2 firing)"
    assert message.text.count("• HostDiskFull") == 2
    assert "'mountpoint': '/srv'" in message.text and "'mountpoint': '/'" in message.text


def test_what_follows_from_a_process_that_is_down_is_not_reported(outage: Outage) -> None:
    assert {outage.states["NoChampion"], outage.states["LatencyBurning"]} == {"suppressed"}
    assert not of(outage, "NoChampion") and not of(outage, "LatencyBurning")
    assert outage.states["ProcessDown"] == "active"


def test_a_silence_by_amtool_keeps_an_alert_from_slack(outage: Outage) -> None:
    assert outage.states["HostOutOfMemory"] == "suppressed"
    assert not of(outage, "HostOutOfMemory")


def test_the_watchdog_fires_for_ever_and_never_reaches_slack(outage: Outage) -> None:
    assert outage.states["Watchdog"] == "active"
    assert not of(outage, "Watchdog")


def amtool(*arguments: str | Path) -> str:
    done = subprocess.run([binary("amtool"), *arguments], capture_output=True, text=True, timeout=30, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_alertmanager_takes_the_configuration_and_its_template() -> None:
    assert "1 templates" in amtool("check-config", CONFIGURATION)


@pytest.mark.parametrize(
    ("labels", "receiver"),
    [
        (["alertname=ProcessDown", "severity=page"], "slack"),
        (["alertname=JobsFailing", "severity=ticket"], "slack"),
        (["alertname=RateLimiting", "severity=info"], "slack-daily"),
        (["alertname=Watchdog", "severity=none"], "watchdog"),
    ],
)
def test_each_severity_has_its_route(labels: list[str], receiver: str) -> None:
    found = amtool(
        "config", "routes", "test", f"--config.file={CONFIGURATION}", f"--verify.receivers={receiver}", *labels
    )
    assert found.strip() == receiver
