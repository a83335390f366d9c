"""All that can be scraped on this machine is."""

from __future__ import annotations

import pytest
import yaml

from tests.monitoring.stack import AWAY, DEPLOYMENTS, MonitoringStack

pytestmark = pytest.mark.monitoring


def test_every_target_is_up_under_the_name_that_it_has_in_containers(stack: MonitoringStack) -> None:
    document = yaml.safe_load((DEPLOYMENTS / "prometheus" / "prometheus.yml").read_text(encoding="utf-8"))
    jobs = {scrape["job_name"] for scrape in document["scrape_configs"]}

    assert stack.targets() == dict.fromkeys(jobs - AWAY, "up")
    assert stack.value("node_load1") is not None
    assert stack.value("rayonnage_champion_info") == 1
