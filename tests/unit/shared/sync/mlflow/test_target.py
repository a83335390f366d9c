"""MLflow follows the bundles and the champion pointer; here it is a dictionary."""

from __future__ import annotations

import shutil
import socket
import subprocess
import sys
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import pytest

from rayonnage_shared.ml.bundles.champion import Champion, write_champion
from rayonnage_shared.sync.base import Markers, SyncTargetUnavailable
from rayonnage_shared.sync.mlflow.address import check_reachable, redacted
from rayonnage_shared.sync.mlflow.client import Logged, TrackingStore
from rayonnage_shared.sync.mlflow.record import BundleRecord
from rayonnage_shared.sync.mlflow.target import MlflowTarget
from rayonnage_shared.sync.settings import SyncSettings
from tests.unit.shared.ml.bundles.manifests import write_bundle
from tests.waiting import PATIENCE_S

FIRST, SECOND, THIRD = (f"2026112{day}T081500Z-000{day}" for day in (1, 2, 3))


@dataclass
class Registry:
    """Stands for MLflow."""

    versions: list[str] = field(default_factory=list)
    champion: str | None = None
    on_volume: dict[str, bool] = field(default_factory=dict)
    away: bool = False
    refuses: str | None = None
    connections: int = 0

    def connect(self, settings: SyncSettings) -> TrackingStore:
        self.connections += 1
        if self.away:
            raise SyncTargetUnavailable("MLflow is down")
        Path(str(settings.mlflow_tracking_uri).removeprefix("sqlite:///")).touch()
        return cast(TrackingStore, self)

    def log_bundle(self, record: BundleRecord) -> Logged:
        if record.version == self.refuses:
            raise RuntimeError("invalid parameter")
        self.versions.append(record.version)
        return Logged(f"run-{record.version}", str(len(self.versions)))

    def point_champion(self, registry_version: str) -> bool:
        if int(registry_version) > len(self.versions):
            return False
        self.champion = self.versions[int(registry_version) - 1]
        return True

    def mark_volume(self, registry_version: str, *, on_volume: bool) -> None:
        self.on_volume[self.versions[int(registry_version) - 1]] = on_volume


@dataclass
class Scene:
    """A model volume, what MLflow knows, and who makes them agree."""

    models: Path
    registry: Registry
    settings: SyncSettings

    def target(self, **changes: Any) -> MlflowTarget:
        return MlflowTarget(self.settings.model_copy(update=changes), self.registry.connect)

    def sync(self) -> list[str]:
        said: list[str] = []
        self.target().sync(said.append)
        return said

    def promote(self, version: str) -> None:
        write_champion(self.models, Champion.promoted(version, "jane", "better"))


@pytest.fixture
def scene(tmp_path: Path) -> Scene:
    settings = SyncSettings(
        models_path=tmp_path / "models",
        data_path=tmp_path / "data",
        mlflow_tracking_uri=f"sqlite:///{tmp_path}/mlflow.db",
    )
    return Scene(tmp_path / "models", Registry(), settings)


def test_nothing_is_pending_on_an_empty_volume(scene: Scene) -> None:
    assert not scene.target().pending()


def test_bundles_are_logged_oldest_first_and_only_once(scene: Scene) -> None:
    write_bundle(scene.models, SECOND)
    write_bundle(scene.models, FIRST)
    assert scene.target().pending()

    said = scene.sync()

    assert scene.registry.versions == [FIRST, SECOND]
    assert any(FIRST in sentence for sentence in said)
    assert not scene.target().pending()
    write_bundle(scene.models, THIRD)
    scene.sync()
    assert scene.registry.versions == [FIRST, SECOND, THIRD]


def test_the_alias_follows_the_pointer_forth_and_back(scene: Scene) -> None:
    for version in (FIRST, SECOND):
        write_bundle(scene.models, version)
    moves = []
    for version in (FIRST, SECOND, FIRST):
        scene.promote(version)
        assert scene.target().pending()
        scene.sync()
        assert not scene.target().pending()
        moves.append(scene.registry.champion)

    assert moves == [FIRST, SECOND, FIRST]
    assert scene.registry.versions == [FIRST, SECOND]


def test_an_outage_leaves_everything_pending_and_nothing_lost(scene: Scene) -> None:
    write_bundle(scene.models, FIRST)
    scene.promote(FIRST)
    scene.registry.away = True
    with pytest.raises(SyncTargetUnavailable):
        scene.sync()
    assert scene.target().pending()

    scene.registry.away = False
    scene.sync()

    assert (scene.registry.versions, scene.registry.champion) == ([FIRST], FIRST)


def test_a_pruned_bundle_keeps_its_version_which_says_so(scene: Scene) -> None:
    write_bundle(scene.models, FIRST)
    write_bundle(scene.models, SECOND)
    scene.sync()
    shutil.move(scene.models / FIRST, scene.models.parent / "elsewhere")
    assert scene.target().pending()

    scene.sync()

    assert scene.registry.on_volume == {FIRST: False}
    assert not scene.target().pending()
    shutil.move(scene.models.parent / "elsewhere", scene.models / FIRST)
    scene.sync()
    assert scene.registry.on_volume == {FIRST: True}
    assert scene.registry.versions == [FIRST, SECOND]


def test_a_bundle_that_was_pruned_before_its_turn_is_not_missed(scene: Scene) -> None:
    write_bundle(scene.models, SECOND)
    scene.promote(FIRST)

    scene.sync()

    assert scene.registry.champion is None
    assert not scene.target().pending()


def test_a_damaged_bundle_is_left_out_and_not_tried_again(scene: Scene) -> None:
    (write_bundle(scene.models, FIRST) / "manifest.json").write_text("{")
    write_bundle(scene.models, SECOND)

    said = scene.sync()

    assert scene.registry.versions == [SECOND]
    assert any("damaged" in sentence for sentence in said)
    assert not scene.target().pending()


def test_one_that_mlflow_does_not_take_keeps_no_other_out_and_stays_pending(scene: Scene) -> None:
    for version in (FIRST, SECOND):
        write_bundle(scene.models, version)
    scene.promote(SECOND)
    scene.registry.refuses = FIRST

    with pytest.raises(RuntimeError, match="invalid parameter"):
        scene.sync()

    assert (scene.registry.versions, scene.registry.champion) == ([SECOND], SECOND)
    assert scene.target().pending()


@pytest.mark.parametrize("setting", ["mlflow_tracking_uri", "mlflow_experiment_name", "mlflow_model_name"])
def test_another_mlflow_begins_anew(scene: Scene, setting: str) -> None:
    write_bundle(scene.models, FIRST)
    scene.sync()

    assert scene.target(**{setting: "sqlite:///elsewhere.db"}).pending()
    assert not scene.target().pending()


def test_a_store_that_was_deleted_is_filled_again(scene: Scene) -> None:
    write_bundle(scene.models, FIRST)
    scene.promote(FIRST)
    scene.sync()
    Path(str(scene.settings.mlflow_tracking_uri).removeprefix("sqlite:///")).unlink()
    scene.registry = Registry()
    assert scene.target().pending()

    scene.sync()

    assert (scene.registry.versions, scene.registry.champion) == ([FIRST], FIRST)


def test_a_version_that_somebody_deleted_is_made_again_when_it_becomes_champion(scene: Scene) -> None:
    write_bundle(scene.models, FIRST)
    scene.sync()
    scene.registry.versions.clear()
    scene.promote(FIRST)

    scene.sync()
    scene.sync()

    assert scene.registry.champion == FIRST


def test_an_address_is_shown_without_its_password() -> None:
    address = "https://jane:hunter2@mlflow.example:8443/path"

    assert redacted(address) == "https://mlflow.example:8443/path"
    assert redacted("sqlite:///data/mlflow.db") == "sqlite:///data/mlflow.db"


def test_a_server_that_is_down_is_found_out_without_mlflows_retries() -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
        began = time.monotonic()
        with pytest.raises(SyncTargetUnavailable, match=str(port)):
            check_reachable(f"http://127.0.0.1:{port}")
    assert time.monotonic() - began < PATIENCE_S, "MLflow's client would try for four minutes"


def test_looking_for_work_imports_neither_mlflow_nor_training_libraries(scene: Scene) -> None:
    write_bundle(scene.models, FIRST)
    code = (
        "import sys; from pathlib import Path; from rayonnage_shared.sync.settings import SyncSettings;"
        "from rayonnage_shared.sync.mlflow.target import MlflowTarget;"
        f"found = MlflowTarget(SyncSettings(models_path=Path({str(scene.models)!r}))).pending();"
        "heavy = {'mlflow', 'sklearn', 'pandas', 'requests'} & set(sys.modules);"
        "sys.exit(0 if found and not heavy else str(heavy))"
    )
    assert subprocess.run([sys.executable, "-c", code], cwd=scene.models, check=False).returncode == 0


@pytest.mark.parametrize(
    "content", ['{"timing": 5}', '{"timing": [{}]}', "{", '{"curves": [{"x": ["a"], "y": ["b"]}]}']
)
def test_a_damaged_evaluation_keeps_no_other_bundle_out(scene: Scene, content: str) -> None:
    (write_bundle(scene.models, FIRST) / "evaluation.json").write_text(content)
    write_bundle(scene.models, SECOND)

    scene.sync()

    assert scene.registry.versions == [SECOND]
    assert not scene.target().pending()


def test_bundles_are_logged_while_the_champion_pointer_is_broken(scene: Scene) -> None:
    write_bundle(scene.models, FIRST)
    (scene.models / "champion.json").write_text("garbage{")

    scene.sync()

    assert (scene.registry.versions, scene.registry.champion) == ([FIRST], None)


def test_a_marker_without_its_fields_stops_nothing(scene: Scene) -> None:
    write_bundle(scene.models, FIRST)
    scene.sync()
    markers = Markers(scene.models, "mlflow")
    marker = markers.read(FIRST) or {}
    markers.write(FIRST, {name: marker[name] for name in ("store", "registry_version")})
    write_bundle(scene.models, SECOND)

    scene.sync()

    assert scene.registry.versions == [FIRST, SECOND]
