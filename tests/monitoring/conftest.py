"""Fixtures of the tests of the monitoring: the platform, and what watches it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.conftest import sample, trained_volume
from tests.e2e.platform import running_platform
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
