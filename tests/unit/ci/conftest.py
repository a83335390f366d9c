"""Fixtures of the tests of `.ci`."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.unit.ci.repository import Repository, new_repository


@pytest.fixture
def repository(tmp_path: Path) -> Repository:
    """A small repository in which `.ci/run` can be tried."""
    return new_repository(tmp_path / "checkout")
