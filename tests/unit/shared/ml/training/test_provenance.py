"""The code version in a bundle's manifest."""

from __future__ import annotations

import pytest

from rayonnage_shared.core.version import VERSION
from rayonnage_shared.ml.training.provenance import code_version


def test_an_image_reports_the_commit_it_was_built_from(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAYONNAGE_REVISION", "5c4ea21")
    assert code_version() == "5c4ea21"


def test_without_a_commit_the_version_of_the_package_is_reported(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAYONNAGE_REVISION", "")
    monkeypatch.setenv("PATH", "")  # no git
    assert code_version() == VERSION
