"""Sync targets run one by one; a failing one does not stop the others."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from rayonnage_shared.core import optional_parts
from rayonnage_shared.core.optional_parts import DVC, MLFLOW
from rayonnage_shared.sync.base import Markers, Say, SyncTarget, SyncTargetUnavailable
from rayonnage_shared.sync.runner import last_success, missing_parts, sync, sync_targets
from rayonnage_shared.sync.settings import SyncSettings


@dataclass
class Diary:
    """A sync target that writes down what it was asked to do."""

    name: str = "diary"
    behind: bool = True
    work: Callable[[], None] = lambda: None
    done: list[str] = field(default_factory=list)

    def pending(self) -> bool:
        return self.behind

    def sync(self, say: Say) -> None:
        self.work()
        self.done.append(self.name)
        self.behind = False
        say(f"{self.name} is up to date")


@pytest.fixture
def settings(tmp_path: Path) -> SyncSettings:
    return SyncSettings(models_path=tmp_path / "models", data_path=tmp_path / "data")


def run(settings: SyncSettings, *chosen: SyncTarget) -> list[tuple[str, str]]:
    return [(one.target, one.status) for one in sync(settings, lambda sentence: None, chosen)]


def test_only_what_is_pending_is_done(settings: SyncSettings) -> None:
    behind, up_to_date = Diary("behind"), Diary("up-to-date", behind=False)

    assert run(settings, behind, up_to_date) == [("behind", "done"), ("up-to-date", "nothing to do")]
    assert (behind.done, up_to_date.done) == (["behind"], [])
    assert run(settings, behind) == [("behind", "nothing to do")]


def test_one_that_is_away_or_fails_does_not_stop_the_next(settings: SyncSettings) -> None:
    def away() -> None:
        raise SyncTargetUnavailable("The server does not answer.")

    def broken() -> None:
        raise ZeroDivisionError("by zero")

    results = sync(settings, lambda sentence: None, [Diary("a", work=away), Diary("b", work=broken), Diary("c")])

    assert [(one.status, one.behind) for one in results] == [("away", True), ("failed", True), ("done", False)]
    assert results[0].detail == "The server does not answer."
    assert "ZeroDivisionError" in results[1].detail


def test_success_is_remembered_and_failure_is_not(settings: SyncSettings) -> None:
    def away() -> None:
        raise SyncTargetUnavailable("gone")

    before = time.time()
    run(settings, Diary("good"), Diary("bad", work=away))

    good = last_success(settings, "good")
    assert good is not None
    assert before - 1 <= good <= time.time() + 1, "file systems keep times to a part of a second"
    assert last_success(settings, "bad") is None


def test_two_processes_never_sync_the_same_target_at_once(settings: SyncSettings) -> None:
    seen: list[list[tuple[str, str]]] = []
    inner = Diary()
    outer = Diary(work=lambda: seen.append(run(settings, inner)))

    assert run(settings, outer) == [("diary", "done")]
    assert seen == [[("diary", "busy")]]
    assert inner.done == []


def test_what_was_done_is_reported(settings: SyncSettings) -> None:
    said: list[str] = []

    sync(settings, said.append, [Diary()])

    assert said == ["diary is up to date"]


def test_a_marker_reads_back_until_it_is_removed(tmp_path: Path) -> None:
    markers = Markers(tmp_path, "diary")
    assert markers.read("a") is None

    markers.write("b", {"run": 2})
    markers.write("a", {"run": 1})

    assert markers.read("a") == {"run": 1}
    assert markers.names() == ["a", "b"]
    markers.remove("a")
    markers.remove("never-there")
    assert markers.names() == ["b"]
    assert [path.name for path in (tmp_path / ".synced" / "diary").iterdir()] == ["b.json"]


@pytest.mark.parametrize("content", ["", "{", "[1]"])
def test_a_torn_marker_counts_as_none(tmp_path: Path, content: str) -> None:
    markers = Markers(tmp_path, "diary")
    markers.write("a", {})
    (markers.folder / "a.json").write_text(content)

    assert markers.read("a") is None


@pytest.fixture
def nothing_optional(monkeypatch: pytest.MonkeyPatch) -> None:
    """DVC and MLflow are not installed."""
    monkeypatch.setattr(optional_parts, "find_spec", lambda name: None)
    for name in ("DVC_REMOTE_URL", "MLFLOW_TRACKING_URI"):
        monkeypatch.delenv(name, raising=False)


@pytest.mark.usefixtures("nothing_optional")
def test_targets_that_are_not_installed_are_left_out_and_can_be_named(settings: SyncSettings) -> None:
    assert sync_targets(settings) == []
    assert missing_parts(settings) == [MLFLOW, DVC]
    assert missing_parts(settings, asked_for=True) == []


@pytest.mark.usefixtures("nothing_optional")
def test_only_a_set_address_asks_for_its_part(tmp_path: Path) -> None:
    asking = SyncSettings(models_path=tmp_path, dvc_remote_url="s3://shop", mlflow_tracking_uri=None)
    assert missing_parts(asking) == missing_parts(asking, asked_for=True) == [DVC]


def test_installed_targets_are_found(settings: SyncSettings) -> None:
    assert [one.name for one in sync_targets(settings)] == ["mlflow", "mlflow-traffic", "dvc"]
    assert missing_parts(settings) == []
