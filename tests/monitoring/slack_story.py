"""One outage as Slack is told of it, with the rules and routes as they are: nothing is scaled, so it takes minutes.

It passes in a thread while other tests run; those that ask for what was told wait for its end.
"""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx2

from tests.e2e.platform import running_platform
from tests.monitoring.slack import Message
from tests.monitoring.stack import MonitoringStack, monitoring_stack
from tests.waiting import eventually

PAGED_WITHIN_S = 120
RESOLVED_WITHIN_S = 150
SECOND_ALERT_S = 20  # group_wait of a page is 10 s, so what has not come by then does not come


@dataclass
class Outage:
    """What came of it."""

    paged_after_s: float = 0.0
    resolved_after_s: float = 0.0
    messages: list[Message] = field(default_factory=list)
    faults: list[str] = field(default_factory=list)
    states: dict[str, str] = field(default_factory=dict)
    """State in Alertmanager (`active`, `suppressed`) by alert, while the process was away."""


class SlackStory:
    """The outage, as it goes on."""

    def __init__(self, future: Future[Outage]) -> None:
        self._future = future

    def outage(self) -> Outage:
        """Return what Slack got, once the outage is over."""
        return self._future.result(timeout=600)


@contextlib.contextmanager
def slack_story(folder: Path, volume: Path) -> Iterator[SlackStory]:
    """Begin the outage on a platform of its own; the block's end waits for it."""
    with ThreadPoolExecutor(1, thread_name_prefix="outage") as thread:
        yield SlackStory(thread.submit(_outage, folder, volume))


def _outage(folder: Path, volume: Path) -> Outage:
    with (
        running_platform(folder / "platform", volume=volume) as platform,
        monitoring_stack(folder / "stack", platform, scrape_interval="10s") as stack,
    ):
        outage = Outage()
        stack.amtool("silence", "add", "alertname=HostOutOfMemory", "--comment=known", "--duration=1h", "--author=test")
        for mountpoint in ("/", "/srv"):
            _add(stack, "HostDiskFull", "page", instance="a:9100", mountpoint=mountpoint)
        _add(stack, "HostOutOfMemory", "page", instance="a:9100")

        stopped = time.monotonic()
        platform.stop("predict")
        assert eventually(lambda: stack.slack.about("ProcessDown"), PAGED_WITHIN_S), stack.slack.messages
        outage.paged_after_s = stack.slack.about("ProcessDown")[0].at - stopped

        end = datetime.now(UTC) + timedelta(seconds=SECOND_ALERT_S + 2)  # before predict is known to be back
        _add(stack, "NoChampion", "page", end, job="predict", instance="a:8003")
        _add(stack, "LatencyBurning", "page", end, job="gateway", slo="latency", window="1h")
        time.sleep(SECOND_ALERT_S)
        outage.states = {alert["labels"]["alertname"]: alert["status"]["state"] for alert in _alerts(stack)}

        started = time.monotonic()
        platform.start("predict")
        platform.wait_until_ready()
        resolved = eventually(lambda: stack.slack.about("ProcessDown", resolved=True), RESOLVED_WITHIN_S)
        assert resolved, stack.slack.messages
        outage.resolved_after_s = stack.slack.about("ProcessDown", resolved=True)[0].at - started
        outage.messages, outage.faults = list(stack.slack.messages), list(stack.slack.faults)
        return outage


def _add(stack: MonitoringStack, name: str, severity: str, end: datetime | None = None, **labels: str) -> None:
    """Give Alertmanager an alert, as Prometheus would."""
    pairs = [f"{key}={value}" for key, value in labels.items()]
    words = [
        f"--annotation=summary={name} {labels}",
        "--annotation=description=-",
        "--annotation=runbook_url=docs/runbook.md",
    ]
    stack.amtool(
        "alert",
        "add",
        f"alertname={name}",
        f"severity={severity}",
        *pairs,
        *words,
        *(["--end", end.isoformat(timespec="seconds")] if end else []),
    )


def _alerts(stack: MonitoringStack) -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads(httpx2.get(f"{stack.alertmanager_url}/api/v2/alerts", timeout=10).text)
    return found
