"""Whether a new bundle is promoted where the champion cannot be compared with."""

from __future__ import annotations

from pathlib import Path

import pytest

from rayonnage_shared.ml.bundles.champion import POINTER_NAME, Champion, write_champion
from rayonnage_shared.ml.evaluation.gate import Verdict
from rayonnage_shared.ml.training.requests import PromotePolicy
from rayonnage_shared.pipelines.settings import PipelineSettings
from rayonnage_shared.pipelines.training import compare_with_champion
from tests.unit.shared.ml.bundles.manifests import write_loadable_bundle

OLD, NEW = "20261120T081500Z-0001", "20261121T081500Z-0002"


@pytest.fixture
def models(tmp_path: Path) -> Path:
    """A volume with a champion and a newer bundle."""
    for version in (OLD, NEW):
        write_loadable_bundle(tmp_path, version)
    write_champion(tmp_path, Champion.promoted(OLD, "jane", "first"))
    return tmp_path


def verdict(models: Path, policy: PromotePolicy) -> Verdict:
    return compare_with_champion(NEW, policy, PipelineSettings(models_path=models, data_path=models / "data"))


@pytest.mark.parametrize(("policy", "promoted"), [("if_better", False), ("always", True), ("never", False)])
def test_a_broken_pointer_is_only_replaced_on_demand(models: Path, policy: PromotePolicy, promoted: bool) -> None:
    (models / POINTER_NAME).write_text("garbage{")
    assert verdict(models, policy).promote is promoted


@pytest.mark.parametrize(("policy", "promoted"), [("if_better", False), ("always", True), ("never", False)])
def test_a_champion_that_cannot_be_loaded_is_only_replaced_on_demand(
    models: Path, policy: PromotePolicy, promoted: bool
) -> None:
    (models / OLD / "manifest.json").write_text("{")
    assert verdict(models, policy).promote is promoted


def test_the_reason_says_what_is_broken(models: Path) -> None:
    (models / OLD / "manifest.json").write_text("{")
    assert f"Bundle {OLD} has no valid manifest" in verdict(models, "if_better").reason
    (models / POINTER_NAME).write_text("garbage{")
    assert "champion.json is not valid" in verdict(models, "if_better").reason
