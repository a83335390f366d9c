"""What watches the platform, for a test: Prometheus, Alertmanager and node-exporter, Debian's, and a stand-in Slack.

with monitoring_stack(tmp_path, platform) as stack:
    stack.query('up{job="predict"}')

Prometheus and Alertmanager run the files of `deployments/`: only addresses and intervals are other ones. What is
scraped has the job names of the containers. cAdvisor needs root and Grafana has no Debian package: those two are away.
"""

from __future__ import annotations

import contextlib
import json
import shutil
import subprocess
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx2
import yaml

from rayonnage_shared.core.processes import PROCESSES
from tests.e2e.platform import Platform
from tests.monitoring.host import Host, make_host
from tests.monitoring.slack import Slack, slack_receiver
from tests.ports import free_ports
from tests.system.prometheus import configured_prometheus, query
from tests.waiting import PATIENCE_S, eventually

DEPLOYMENTS = Path(__file__).parents[2] / "deployments"
RULES = DEPLOYMENTS / "prometheus" / "rules"
OWN_RULES = "own-rules"
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

    @property
    def pid(self) -> int:
        assert self.process is not None, "it does not run"
        return self.process.pid

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
            self.process.wait(PATIENCE_S)
            self.process = None


@dataclass
class MonitoringStack:
    """A platform and what watches it."""

    platform: Platform
    folder: Path
    prometheus: httpx2.Client
    alertmanager: Daemon
    node_exporter: Daemon
    host: Host
    slack: Slack
    alertmanager_url: str
    addresses: dict[str, str]
    """What Prometheus scrapes, by job: host and port."""
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

    def fires(self, *names: str, within_s: float = 60) -> None:
        """Return when all of these alerts have fired since the call, if not all at once; else fail."""
        missing = set(names)

        def all_fired() -> bool:
            missing.difference_update(labels["alertname"] for labels in self.firing())
            return not missing

        assert eventually(all_fired, within_s, 0.2), f"{missing} did not fire; seen {self.seen}"

    def targets(self) -> dict[str, str]:
        """Return each job's health: `up`, or what its first unhealthy target says."""
        found: dict[str, str] = {}
        for one in self.prometheus.get("/api/v1/targets?state=active").json()["data"]["activeTargets"]:
            if found.get(one["labels"]["job"], "up") == "up":
                found[one["labels"]["job"]] = "up" if one["health"] == "up" else (one["lastError"] or one["health"])
        return found

    def set_target(self, job: str, address: str | None) -> None:
        """Let a job have this one target, or none, as when the name server knows no container of that name."""
        write_target(self.folder, job, address)

    def wait_until_scraped(self, within_s: float = 30) -> None:
        """Return when every target is up; else fail with what they say."""
        assert eventually(lambda: set(self.targets().values()) == {"up"}, within_s), self.targets()

    def amtool(self, *arguments: str) -> str:
        """Run `amtool` against Alertmanager and return what it prints."""
        command = [binary("amtool"), f"--alertmanager.url={self.alertmanager_url}", *arguments]
        done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout


def prometheus_configuration(folder: Path, addresses: dict[str, str], *, scrape_interval: str) -> str:
    """Return `deployments/prometheus/prometheus.yml` with the targets that stand in files below `folder`."""
    document = yaml.safe_load((DEPLOYMENTS / "prometheus" / "prometheus.yml").read_text(encoding="utf-8"))
    document["global"] |= {
        "scrape_interval": scrape_interval,
        "scrape_timeout": "1s" if scrape_interval == "1s" else "5s",
        "evaluation_interval": scrape_interval,
    }
    document["alerting"] = {"alertmanagers": [{"static_configs": [{"targets": [addresses["alertmanager"]]}]}]}
    document["rule_files"].append(f"{OWN_RULES}/*.yml")
    scrapes = []
    for scrape in document["scrape_configs"]:
        job = scrape["job_name"]
        if job in AWAY:
            continue
        kept = {
            key: value for key, value in scrape.items() if not key.endswith("_sd_configs") and key != "static_configs"
        }
        scrapes.append(kept | {"file_sd_configs": [{"files": [str(_target_file(folder, job))]}]})
        write_target(folder, job, addresses[job])
    document["scrape_configs"] = scrapes
    text: str = yaml.safe_dump(document, sort_keys=False)
    return text


def write_target(folder: Path, job: str, address: str | None) -> None:
    """Write the file that names a job's target; Prometheus looks again when it is replaced."""
    path = _target_file(folder, job)
    path.parent.mkdir(exist_ok=True)
    new = path.with_suffix(".new")
    new.write_text(json.dumps([{"targets": [address] if address else []}]), encoding="utf-8")
    new.replace(path)


def _target_file(folder: Path, job: str) -> Path:
    return folder / "targets" / f"{job}.json"


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
    own_rules: Mapping[str, str] | None = None,
    scrape_interval: str = "1s",
) -> Iterator[MonitoringStack]:
    """Start all that watches `platform` in `folder`, and end it, whatever happens; `own_rules` are files to add."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / OWN_RULES).mkdir()
    for name, rules in (own_rules or {}).items():
        (folder / OWN_RULES / f"{name}.yml").write_text(rules, encoding="utf-8")
    prometheus_port, alertmanager_port, node_exporter_port = free_ports(3)
    alertmanager_url = f"http://127.0.0.1:{alertmanager_port}"
    addresses = {process.name: urlsplit(platform.metrics_url(process.name)).netloc for process in PROCESSES} | {
        "prometheus": f"127.0.0.1:{prometheus_port}",
        "alertmanager": f"127.0.0.1:{alertmanager_port}",
        "node-exporter": f"127.0.0.1:{node_exporter_port}",
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
        host = make_host(folder / "host")
        node_exporter = Daemon(
            host.shown_to(
                [
                    binary("prometheus-node-exporter"),
                    f"--web.listen-address=127.0.0.1:{node_exporter_port}",
                    "--log.level=warn",
                ]
            ),
            folder,
            f"http://127.0.0.1:{node_exporter_port}/",
        )
        stack.callback(node_exporter.stop)
        node_exporter.start()
        text = prometheus_configuration(folder, addresses, scrape_interval=scrape_interval)
        client = stack.enter_context(configured_prometheus(folder, prometheus_port, text))
        running = MonitoringStack(
            platform, folder, client, alertmanager, node_exporter, host, slack, alertmanager_url, addresses
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
