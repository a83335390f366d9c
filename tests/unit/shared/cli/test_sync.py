"""`rayonnage sync`, and the sync after other commands."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pytest
from typer.testing import CliRunner, Result

from rayonnage_shared.cli.main import create_app
from rayonnage_shared.cli.sync import catch_up
from rayonnage_shared.sync import runner
from rayonnage_shared.sync.base import Say, SyncTarget, SyncTargetUnavailable
from rayonnage_shared.sync.settings import SyncSettings


@dataclass
class Mirror:
    """A sync target that is up to date after one call, unless it is away."""

    name: str
    away: bool = False
    behind: bool = True

    def pending(self) -> bool:
        return self.behind

    def sync(self, say: Say) -> None:
        if self.away:
            raise SyncTargetUnavailable("It does not answer.")
        self.behind = False
        say(f"{self.name} has all")


@pytest.fixture
def mirrors(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> dict[str, Mirror]:
    """Two sync targets in the place of MLflow and DVC."""
    monkeypatch.setenv("MODELS_PATH", str(tmp_path / "models"))
    made = {name: Mirror(name) for name in ("left", "right")}

    def sync_targets(settings: SyncSettings) -> list[SyncTarget]:
        return list(made.values())

    monkeypatch.setattr(runner, "sync_targets", sync_targets)
    return made


def run(*arguments: str) -> Result:
    return CliRunner().invoke(create_app(("sync",)), ["sync", *arguments])


def test_all_targets_are_synced_and_reported(mirrors: dict[str, Mirror]) -> None:
    found = run()

    assert found.exit_code == 0
    assert found.output.splitlines() == ["left has all", "right has all", "left: done.", "right: done."]
    assert run().output.splitlines() == ["left: nothing to do.", "right: nothing to do."]


def test_one_can_be_chosen(mirrors: dict[str, Mirror]) -> None:
    assert run("right").exit_code == 0
    assert mirrors["left"].behind
    assert not mirrors["right"].behind


def test_a_name_that_there_is_not_is_refused_with_those_there_are(mirrors: dict[str, Mirror]) -> None:
    found = run("middle")

    assert found.exit_code == 2
    assert "left, right" in found.output
    assert mirrors["left"].behind


def test_what_is_pending_is_shown_by_status_and_sentence(mirrors: dict[str, Mirror]) -> None:
    mirrors["left"].away = True

    found = run()

    assert found.exit_code == 1
    assert "left: away. It does not answer." in found.output
    assert "right: done." in found.output


def test_another_command_only_warns(mirrors: dict[str, Mirror], capsys: pytest.CaptureFixture[str]) -> None:
    mirrors["left"].away = True

    catch_up()

    assert "left is not up to date: It does not answer." in capsys.readouterr().err
    assert not mirrors["right"].behind
