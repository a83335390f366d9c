"""The rules as Prometheus itself reads and tries them, before and after they are scaled."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from tests.monitoring.alerts import RULES, rule_files
from tests.monitoring.scaling import scaled
from tests.monitoring.stack import DEPLOYMENTS, binary

pytestmark = pytest.mark.monitoring


def promtool(*arguments: str | Path) -> None:
    done = subprocess.run([binary("promtool"), *arguments], capture_output=True, text=True, timeout=200, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_prometheus_takes_the_configuration_and_every_rule() -> None:
    promtool("check", "config", DEPLOYMENTS / "prometheus" / "prometheus.yml")


@pytest.mark.parametrize("path", sorted(RULES.glob("*_test.yml")), ids=lambda path: path.stem)
def test_alerts_fire_and_keep_quiet_as_their_tests_say(path: Path) -> None:
    promtool("test", "rules", path)


@pytest.mark.parametrize("path", rule_files(), ids=lambda path: path.stem)
def test_scaled_rules_are_rules(path: Path, tmp_path: Path) -> None:
    copy = tmp_path / path.name
    copy.write_text(scaled(path.read_text(encoding="utf-8")), encoding="utf-8")

    promtool("check", "rules", copy)
