"""What a bundle says of the code that made it."""

from __future__ import annotations

import pytest

from rayonnage_shared.core.version import VERSION
from rayonnage_shared.ml.training.provenance import code_version


def test_an_image_knows_the_commit_that_it_was_built_from(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAYONNAGE_REVISION", "5c4ea21")
    assert code_version() == "5c4ea21"


def test_an_image_that_was_not_told_names_the_version(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAYONNAGE_REVISION", "")
    monkeypatch.setenv("PATH", "")  # no git
    assert code_version() == VERSION
