"""Fixtures of the unit tests."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from prometheus_client import REGISTRY


@pytest.fixture
def own_metrics() -> Iterator[None]:
    """Take away the metrics that a test's application brought, and leave everybody else's."""
    before = set(REGISTRY._collector_to_names)
    yield
    for collector in set(REGISTRY._collector_to_names) - before:
        REGISTRY.unregister(collector)
