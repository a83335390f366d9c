"""What watches the platform, for a test: Prometheus, Alertmanager and node-exporter, Debian's, and a stand-in Slack.

with monitoring_stack(tmp_path, platform) as stack:
    stack.query('up{job="predict"}')

Prometheus and Alertmanager run the files of `deployments/`: only addresses and intervals are other ones. What is
scraped has the job names of the containers. cAdvisor needs root and Grafana has no Debian package: those two are away.
"""

from __future__ import annotations

import contextlib
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx2
import yaml

from rayonnage_shared.processes import PROCESSES
from tests.e2e.platform import Platform, eventually, free_ports
from tests.monitoring.slack import Slack, slack_receiver
from tests.system.prometheus import configured_prometheus, query

DEPLOYMENTS = Path(__file__).parents[2] / "deployments"
RULES = DEPLOYMENTS / "prometheus" / "rules"
AWAY = frozenset({"cadvisor", "grafana"})
STARTS_WITHIN_S = 30

ChangeText = Callable[[str], str]


class PackageMissing(Exception):
    """A Debian package is not installed."""


def binary(name: str) -> str:
    """Return the path of a command. Raises PackageMissing."""
    found = shutil.which(name)
    if found is None:
        raise PackageMissing(
            f"{name} is not here: apt-get install prometheus prometheus-alertmanager prometheus-node-exporter"
        )
    return found


@dataclass
class Daemon:
    """One process of the stack, to be ended and started again."""

    command: list[str]
    folder: Path
    ready_url: str
    process: subprocess.Popen[bytes] | None = None

    @property
    def output(self) -> Path:
        return self.folder / f"{Path(self.command[0]).name}.output"

    def start(self) -> None:
        """Start it and wait until it answers."""
        with self.output.open("ab") as output:
            self.process = subprocess.Popen(self.command, cwd=self.folder, stdout=output, stderr=output)
        assert eventually(self.answers, STARTS_WITHIN_S), self.output.read_text()

    def answers(self) -> bool:
        """Return whether it says that it is ready. Fails when it has ended."""
        assert self.process is not None and self.process.poll() is None, self.output.read_text()
        with contextlib.suppress(httpx2.TransportError):
            return httpx2.get(self.ready_url, timeout=5).status_code == 200
        return False

    def stop(self) -> None:
        """End it, if it runs."""
        if self.process is not None:
            self.process.terminate()
            self.process.wait(20)
            self.process = None


@dataclass
class MonitoringStack:
    """A platform and what watches it."""

    platform: Platform
    folder: Path
    prometheus: httpx2.Client
    alertmanager: Daemon
    node_exporter: Daemon
    slack: Slack
    alertmanager_url: str
    seen: set[str] = field(default_factory=set)
    """Names of the alerts that were seen firing."""

    def query(self, expression: str) -> list[dict[str, Any]]:
        """Return the series that the expression gives now, each with `metric` and `value`."""
        return query(self.prometheus, expression)

    def value(self, expression: str) -> float | None:
        """Return the one number that the expression gives now, or None."""
        found = self.query(expression)
        return float(found[0]["value"][1]) if found else None

    def firing(self, name: str | None = None) -> list[dict[str, str]]:
        """Return the labels of the alerts that fire in Prometheus now, all or those of one name."""
        answer = self.prometheus.get("/api/v1/alerts").json()["data"]["alerts"]
        firing = [dict(one["labels"]) for one in answer if one["state"] == "firing"]
        self.seen |= {labels["alertname"] for labels in firing}
        return [labels for labels in firing if name in (None, labels["alertname"])]

    def targets(self) -> dict[str, str]:
        """Return each job's health: `up`, or what its first unhealthy target says."""
        found: dict[str, str] = {}
        for one in self.prometheus.get("/api/v1/targets?state=active").json()["data"]["activeTargets"]:
            if found.get(one["labels"]["job"], "up") == "up":
                found[one["labels"]["job"]] = "up" if one["health"] == "up" else (one["lastError"] or one["health"])
        return found

    def wait_until_scraped(self, within_s: float = 30) -> None:
        """Return when every target is up; else fail with what they say."""
        assert eventually(lambda: set(self.targets().values()) == {"up"}, within_s), self.targets()

    def amtool(self, *arguments: str) -> str:
        """Run `amtool` against Alertmanager and return what it prints."""
        command = [binary("amtool"), f"--alertmanager.url={self.alertmanager_url}", *arguments]
        done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout


def prometheus_configuration(
    platform: Platform, others: dict[str, str], alertmanager: str, *, scrape_interval: str = "1s"
) -> str:
    """Return `deployments/prometheus/prometheus.yml` with the addresses of this machine; `others` by job name."""
    document = yaml.safe_load((DEPLOYMENTS / "prometheus" / "prometheus.yml").read_text(encoding="utf-8"))
    document["global"] |= {
        "scrape_interval": scrape_interval,
        "scrape_timeout": "1s" if scrape_interval == "1s" else "5s",
        "evaluation_interval": scrape_interval,
    }
    document["alerting"] = {"alertmanagers": [{"static_configs": [{"targets": [urlsplit(alertmanager).netloc]}]}]}
    addresses = {process.name: platform.metrics_url(process.name) for process in PROCESSES} | others
    scrapes = []
    for scrape in document["scrape_configs"]:
        if scrape["job_name"] in AWAY:
            continue
        kept = {key: value for key, value in scrape.items() if not key.endswith("_sd_configs")}
        target = urlsplit(addresses[scrape["job_name"]]).netloc
        scrapes.append(kept | {"static_configs": [{"targets": [target]}]})
    document["scrape_configs"] = scrapes
    text: str = yaml.safe_dump(document, sort_keys=False)
    return text


def copy_rules(folder: Path, change: ChangeText | None = None) -> None:
    """Copy the rules, each file's text as `change` returns it, to where Prometheus looks for them."""
    folder.mkdir(parents=True, exist_ok=True)
    for path in RULES.glob("*.yml"):
        text = path.read_text(encoding="utf-8")
        (folder / path.name).write_text(change(text) if change else text, encoding="utf-8")


@contextlib.contextmanager
def monitoring_stack(
    folder: Path,
    platform: Platform,
    *,
    change_rules: ChangeText | None = None,
    change_routes: ChangeText | None = None,
    scrape_interval: str = "1s",
) -> Iterator[MonitoringStack]:
    """Start all that watches `platform` in `folder`, and end it, whatever happens."""
    folder.mkdir(parents=True, exist_ok=True)
    prometheus_port, alertmanager_port, node_exporter_port = free_ports(3)
    alertmanager_url = f"http://127.0.0.1:{alertmanager_port}"
    others = {
        "prometheus": f"http://127.0.0.1:{prometheus_port}",
        "alertmanager": alertmanager_url,
        "node-exporter": f"http://127.0.0.1:{node_exporter_port}",
    }
    copy_rules(folder / "rules", change_rules)
    with contextlib.ExitStack() as stack:
        slack = stack.enter_context(slack_receiver())
        alertmanager = Daemon(
            [
                binary("prometheus-alertmanager"),
                f"--config.file={_alertmanager_files(folder, slack.url, change_routes)}",
                f"--storage.path={folder / 'alertmanager-data'}",
                f"--web.listen-address=127.0.0.1:{alertmanager_port}",
                "--cluster.listen-address=",
                "--log.level=info",
            ],
            folder,
            f"{alertmanager_url}/-/ready",
        )
        stack.callback(alertmanager.stop)
        alertmanager.start()
        node_exporter = Daemon(
            [
                binary("prometheus-node-exporter"),
                f"--web.listen-address=127.0.0.1:{node_exporter_port}",
                "--log.level=warn",
            ],
            folder,
            f"{others['node-exporter']}/",
        )
        stack.callback(node_exporter.stop)
        node_exporter.start()
        text = prometheus_configuration(platform, others, alertmanager_url, scrape_interval=scrape_interval)
        client = stack.enter_context(configured_prometheus(folder, prometheus_port, text))
        running = MonitoringStack(
            platform, folder, client, alertmanager, node_exporter, slack, alertmanager_url=alertmanager_url
        )
        running.wait_until_scraped()
        yield running


def _alertmanager_files(folder: Path, slack_url: str, change: ChangeText | None) -> Path:
    """Copy Alertmanager's files with this address of Slack, and return the configuration's path."""
    target = folder / "alertmanager"
    shutil.copytree(DEPLOYMENTS / "alertmanager", target)
    secret = target / "slack_webhook_url"
    secret.write_text(slack_url, encoding="utf-8")
    path = target / "alertmanager.yml"
    text = path.read_text(encoding="utf-8").replace("/run/secrets/slack_webhook_url", str(secret))
    path.write_text(change(text) if change else text, encoding="utf-8")
    return path


def within(stack: MonitoringStack, name: str, within_s: float) -> float:
    """Return after how many seconds the alert fires; fails when it does not."""
    started = time.monotonic()
    assert eventually(lambda: stack.firing(name), within_s, 0.3), f"{name} did not fire: {stack.firing()}"
    return time.monotonic() - started
