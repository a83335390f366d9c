"""Old bundles and datasets are removed; damaged files never stop that, and never make anything else go."""

from __future__ import annotations

import json
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from structlog.testing import capture_logs

from rayonnage_shared.ml.bundles.champion import POINTER_NAME, Champion, write_champion
from rayonnage_shared.ml.bundles.manifest import list_versions
from rayonnage_shared.ml.catalogue.datasets import DatasetStore
from rayonnage_shared.ml.evaluation.saved_predictions import predictions_path
from rayonnage_shared.ml.features import photo_feature_cache
from rayonnage_shared.ml.features.photo_feature_cache import UNUSED_DAYS, PhotoFeatureCache
from rayonnage_shared.registry.retention import prune
from tests.unit.shared.ml.bundles.manifests import write_bundle

V1, V2, V3, V4 = (f"2026112{day}T081500Z-000{day}" for day in (1, 2, 3, 4))


def data_version(bundle: str) -> str:
    """Return the version of the dataset that this bundle was trained on."""
    return bundle.replace("T08", "T07")


@dataclass(frozen=True)
class Volume:
    """Bundles, each trained on a dataset version of its own, and what pruning leaves of them."""

    models: Path
    store: DatasetStore

    def add(self, *versions: str, **changes: Any) -> None:
        for version in versions:
            dataset = {"version": data_version(version), "sha256": "0" * 64, "demo": False}
            write_bundle(self.models, version, **({"dataset": dataset} | changes))
            folder = self.store.folder / data_version(version)
            folder.mkdir(parents=True)
            (folder / "manifest.json").write_text("{}")
            predictions = predictions_path(self.store.data_path, version)
            predictions.parent.mkdir(parents=True, exist_ok=True)
            predictions.touch()

    def damage(self, version: str, content: str) -> None:
        (self.models / version / "manifest.json").write_text(content)

    def promote(self, version: str, *history: str) -> None:
        write_champion(self.models, Champion.promoted(version, "jane", "better", history))

    def prune(self, kept: int = 1) -> list[str]:
        """Prune and return the names of the events that were logged."""
        with capture_logs() as events:
            prune(self.models, self.store, bundles_kept=kept, datasets_kept=1)
        return [event["event"] for event in events]

    def datasets(self) -> set[str]:
        """Return the bundles whose datasets are still there."""
        return {version.replace("T07", "T08") for version in self.store.versions()}


@pytest.fixture
def volume(tmp_path: Path) -> Volume:
    return Volume(tmp_path / "models", DatasetStore(tmp_path / "data"))


def other_format(version: str) -> str:
    return json.dumps({"format": 2, "dataset": {"version": data_version(version), "rows": 5}})


def test_old_bundles_are_removed_with_their_predictions_and_datasets(volume: Volume) -> None:
    volume.add(V1, V2, V3)
    volume.promote(V3)
    for version in (V1, V3):
        (volume.store.processed_folder(data_version(version)) / "train").mkdir(parents=True)

    assert volume.prune() == ["bundle.pruned", "bundle.pruned", "dataset.pruned", "dataset.pruned"]

    assert (list_versions(volume.models), volume.datasets()) == ([V3], {V3})
    assert not predictions_path(volume.store.data_path, V1).exists()
    assert not volume.store.processed_folder(data_version(V1)).exists()
    assert volume.store.processed_folder(data_version(V3)).exists()


def test_the_champion_its_base_and_its_history_stay(volume: Volume) -> None:
    volume.add(V1)
    volume.add(V2, base_version=V1)
    volume.add(V3, V4)
    volume.promote(V2, V3)

    volume.prune(0)

    assert list_versions(volume.models) == [V3, V2, V1]


def test_features_of_photos_that_nobody_used_for_long_are_removed(
    volume: Volume, monkeypatch: pytest.MonkeyPatch
) -> None:
    cache = PhotoFeatureCache(volume.store.photo_features_path)
    cache.save("network", {"photo": np.ones(3, dtype=np.float32)})
    assert volume.prune() == []
    today = photo_feature_cache._today()
    monkeypatch.setattr(photo_feature_cache, "_today", lambda: today + UNUSED_DAYS + 1)

    assert volume.prune() == ["photo_features.pruned"]

    assert cache.find("network", ["photo"]) == {}


@pytest.mark.parametrize("content", [other_format(V2), "{", "[]", "", '{"format": 1}'])
def test_a_broken_bundle_is_kept_and_the_others_are_pruned(volume: Volume, content: str) -> None:
    volume.add(V1, V2, V3)
    volume.promote(V3)
    volume.damage(V2, content)

    assert "bundle.not_pruned" in volume.prune()

    assert list_versions(volume.models) == [V3, V2]
    assert predictions_path(volume.store.data_path, V2).exists()


def test_a_broken_bundle_does_not_count_among_those_kept(volume: Volume) -> None:
    volume.add(V1, V2, V3)
    volume.promote(V2)
    volume.damage(V3, "{")

    volume.prune(2)

    assert list_versions(volume.models) == [V3, V2, V1]


def test_a_dataset_that_a_broken_manifest_names_is_kept(volume: Volume) -> None:
    volume.add(V1, V2, V3)
    volume.promote(V3)
    volume.damage(V1, other_format(V1))
    volume.damage(V2, "{")

    volume.prune()

    assert volume.datasets() == {V1, V3}


def test_a_broken_bundle_ends_the_chain_of_bases(volume: Volume) -> None:
    volume.add(V1, V2)
    volume.add(V3, base_version=V2)
    volume.promote(V3)
    volume.damage(V2, "{")

    volume.prune()

    assert list_versions(volume.models) == [V3, V2]


def test_nothing_is_pruned_while_the_champion_is_unknown(volume: Volume) -> None:
    volume.add(V1, V2, V3)
    (volume.models / POINTER_NAME).write_text("garbage{")

    assert volume.prune() == ["retention.failed"]

    assert list_versions(volume.models) == [V3, V2, V1]
    assert volume.datasets() == {V1, V2, V3}


def test_a_folder_that_cannot_be_removed_does_not_stop_the_others(
    volume: Volume, monkeypatch: pytest.MonkeyPatch
) -> None:
    volume.add(V1, V2, V3)
    volume.promote(V3)
    rename = Path.rename

    def refusing(path: Path, target: Path) -> Path:
        if path.name == V2:
            raise PermissionError(13, "Permission denied")
        return rename(path, target)

    monkeypatch.setattr(Path, "rename", refusing)

    assert "retention.failed" in volume.prune()

    assert list_versions(volume.models) == [V3, V2]
    assert volume.datasets() == {V2, V3}


def test_no_trouble_of_any_kind_is_raised(volume: Volume, monkeypatch: pytest.MonkeyPatch) -> None:
    volume.add(V1, V2)
    volume.promote(V2)

    def failing(*_: object, **__: object) -> None:
        raise RuntimeError("unexpected")

    monkeypatch.setattr(shutil, "rmtree", failing)

    assert volume.prune() == ["retention.failed"]
