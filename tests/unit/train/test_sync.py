"""The worker spawns a child when a sync target has pending work, and never waits for it."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path

import pytest
from prometheus_client import generate_latest

from rayonnage_shared.core import optional_parts
from rayonnage_shared.sync.base import Say
from rayonnage_shared.sync.dvc.target import DvcTarget
from rayonnage_train.settings import TrainSettings
from rayonnage_train.sync import LONGEST_PAUSE_S, SyncProcess
from rayonnage_train.worker_metrics import WorkerMetrics
from tests.waiting import PATIENCE_S, eventually

ENDS_WELL = "import sys; open(sys.argv[1], 'a').write('run\\n')"
FAILS = ENDS_WELL + "; sys.exit(75)"
HANGS = ENDS_WELL + "; import time; time.sleep(600)"


@dataclass
class Shelf:
    """A sync target of a folder that a test fills."""

    behind: bool = False
    broken: bool = False
    name: str = "shelf"

    def pending(self) -> bool:
        if self.broken:
            raise OSError("the volume is away")
        return self.behind

    def sync(self, say: Say) -> None:
        raise AssertionError("only the child follows")


@dataclass
class Scene:
    """The worker's part, a clock of its own, and a child that writes a line each time it is started."""

    folder: Path
    shelf: Shelf = field(default_factory=Shelf)
    metrics: WorkerMetrics = field(default_factory=WorkerMetrics)
    now: float = 1000.0
    made: list[SyncProcess] = field(default_factory=list)

    def sync_process(self, script: str, **settings: float) -> SyncProcess:
        made = SyncProcess(
            TrainSettings(models_path=self.folder / "models", **settings),  # type: ignore[arg-type]
            self.metrics,
            chosen=[self.shelf],
            command=[sys.executable, "-S", "-c", script, str(self.folder / "runs")],
            clock=lambda: self.now,
        )
        self.made.append(made)
        return made

    @property
    def runs(self) -> int:
        path = self.folder / "runs"
        return len(path.read_text().splitlines()) if path.exists() else 0

    def pass_time(self, sync_process: SyncProcess, seconds: float, step_s: float = 0.5) -> None:
        """Let the worker's clock run; a child that was started gets the time that it really needs."""
        end = self.now + seconds
        while self.now < end:
            self.now += step_s
            sync_process.tick()
            if sync_process.child is not None:
                sync_process.child.wait(PATIENCE_S)


@pytest.fixture
def scene(tmp_path: Path) -> Iterator[Scene]:
    made = Scene(tmp_path)
    yield made
    for one in made.made:
        one.stop()


def test_no_child_is_started_while_nothing_is_pending(scene: Scene) -> None:
    scene.pass_time(scene.sync_process(ENDS_WELL), 100)

    assert scene.runs == 0


def test_a_child_is_started_soon_after_something_is_pending(scene: Scene) -> None:
    sync_process = scene.sync_process(ENDS_WELL)
    scene.pass_time(sync_process, 10)
    scene.shelf.behind = True

    scene.pass_time(sync_process, 2.0)

    assert scene.runs == 1


def test_the_pause_between_children_doubles_up_to_a_minute(scene: Scene) -> None:
    scene.shelf.behind = True
    sync_process = scene.sync_process(FAILS)
    began: list[float] = []
    while len(began) < 9:
        scene.pass_time(sync_process, 0.5)
        if scene.runs > len(began):
            began.append(scene.now)

    pauses = [later - earlier for earlier, later in pairwise(began)]
    assert pauses[0] < 4
    assert all(earlier <= later for earlier, later in pairwise(pauses))
    assert LONGEST_PAUSE_S <= pauses[-1] <= LONGEST_PAUSE_S + 4


def test_after_it_caught_up_the_next_work_is_begun_at_once_again(scene: Scene) -> None:
    scene.shelf.behind = True
    sync_process = scene.sync_process(FAILS)
    scene.pass_time(sync_process, 200)
    scene.shelf.behind = False
    scene.pass_time(sync_process, 70)
    before = scene.runs
    scene.shelf.behind = True

    scene.pass_time(sync_process, 2.0)

    assert scene.runs == before + 1


def test_a_child_that_hangs_delays_nothing_and_there_is_only_one(scene: Scene) -> None:
    scene.shelf.behind = True
    sync_process = scene.sync_process(HANGS)
    for _ in range(100):
        scene.now += 1
        sync_process.tick()  # would wait for the child's ten minutes

    assert eventually(lambda: scene.runs == 1)


def test_a_child_that_takes_too_long_is_killed_and_begun_anew(scene: Scene) -> None:
    scene.shelf.behind = True
    sync_process = scene.sync_process(HANGS, train_sync_limit_s=30)
    sync_process.tick()
    assert eventually(lambda: scene.runs == 1)
    scene.now += 31

    def begun_anew() -> bool:
        scene.now += 1
        sync_process.tick()
        return scene.runs == 2

    assert eventually(begun_anew)


def test_the_child_ends_with_the_worker(scene: Scene) -> None:
    scene.shelf.behind = True
    sync_process = scene.sync_process(HANGS)
    sync_process.tick()
    assert eventually(lambda: scene.runs == 1)
    child = sync_process.child
    assert child is not None

    sync_process.stop()  # would wait for the child's ten minutes

    with pytest.raises(ProcessLookupError):
        os.kill(child.pid, 0)


def test_a_sync_target_that_cannot_read_its_markers_harms_neither_the_worker_nor_the_others(scene: Scene) -> None:
    scene.shelf.broken = True
    sync_process = scene.sync_process(ENDS_WELL)

    scene.pass_time(sync_process, 10)

    assert scene.runs == 0
    scene.shelf.broken, scene.shelf.behind = False, True
    scene.pass_time(sync_process, 2.0)
    assert scene.runs == 1


def test_prometheus_sees_who_is_behind_and_since_when(scene: Scene) -> None:
    scene.shelf.behind = True
    success = scene.folder / "models" / ".synced" / "shelf.success"
    success.parent.mkdir(parents=True)
    success.touch()
    os.utime(success, (1700000000, 1700000000))

    scene.sync_process(ENDS_WELL).tick()

    page = generate_latest(scene.metrics.registry).decode()
    assert 'rayonnage_sync_pending{target="shelf"} 1.0' in page
    assert 'rayonnage_sync_last_success_timestamp_seconds{target="shelf"} 1.7e+09' in page


def test_a_part_that_is_installed_while_the_platform_runs_is_synced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    runs, now = tmp_path / "runs", [1000.0]
    monkeypatch.setattr(optional_parts, "find_spec", lambda name: None)
    made = SyncProcess(
        TrainSettings(models_path=tmp_path / "models", data_path=tmp_path / "data"),
        WorkerMetrics(),
        command=[sys.executable, "-S", "-c", ENDS_WELL, str(runs)],
        clock=lambda: now[0],
    )
    made.tick()
    assert made.child is None

    monkeypatch.undo()
    monkeypatch.setattr(DvcTarget, "pending", lambda self: True)
    now[0] += 10
    made.tick()

    assert made.child is not None
    made.stop()
