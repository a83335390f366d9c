"""Work in another interpreter: what it reports, how it fails, and that it never outlives who asked for it.

A plain Python stands for the one with torch.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from rayonnage_shared.core import host
from rayonnage_shared.core.errors import BadInput, RayonnageError
from rayonnage_shared.ml.base.model import FamilyNotTrainable
from rayonnage_shared.ml.base.progress import silent
from rayonnage_shared.ml.networks.camembert import torch_process
from rayonnage_shared.ml.networks.camembert.torch_process import (
    TorchTrainingFailed,
    WeightsUnavailable,
    run_in_torch,
)
from tests.processes import killed_at_end
from tests.waiting import PATIENCE_S, eventually

CHILD = """
import os, sys, time
from pathlib import Path
from rayonnage_shared.core.errors import BadInput
from rayonnage_shared.ml.networks.camembert.torch_process import WeightsUnavailable, serve_parent

def work(folder, progress):
    (folder / "pid").write_text(str(os.getpid()))
    {work}

sys.exit(serve_parent(work))
"""
PARENT = """
import sys
from pathlib import Path
from rayonnage_shared.ml.base.progress import silent
from rayonnage_shared.ml.networks.camembert.torch_process import run_in_torch
run_in_torch(Path(sys.argv[1]), "any", Path(sys.argv[2]), silent)
"""


@pytest.fixture
def interpreter(tmp_path: Path) -> Callable[[str], Path]:
    """Makes an interpreter that does one line of work, whatever module it is asked for."""

    def make(work: str) -> Path:
        script, program = tmp_path / "python", tmp_path / "child.py"
        program.write_text(CHILD.format(work=work), encoding="utf-8")
        # Only `-m module` goes; folder and parent stay.
        script.write_text(f'#!/bin/sh\nshift 2\nexec "{sys.executable}" "{program}" "$@"\n', encoding="utf-8")
        script.chmod(0o755)
        return script

    return make


Interpreter = Callable[[str], Path]


def wait_for(path: Path) -> int:
    assert eventually(lambda: path.exists() and path.read_text(encoding="utf-8")), "the child did not start"
    return int(path.read_text(encoding="utf-8"))


def test_work_is_done_in_the_folder_and_reports_its_progress(interpreter: Interpreter, tmp_path: Path) -> None:
    reported: list[tuple[float, str]] = []
    python = interpreter('(folder / "made").write_text("yes"); progress(0.5, "halfway")')

    run_in_torch(python, "any", tmp_path, lambda fraction, message: reported.append((fraction, message)))

    assert (tmp_path / "made").read_text(encoding="utf-8") == "yes"
    assert reported[-1] == (0.5, "halfway")


def test_what_libraries_print_is_no_message(interpreter: Interpreter, tmp_path: Path) -> None:
    python = interpreter('print("Downloading 10 %"); os.system("echo loud"); progress(1.0, "done")')
    run_in_torch(python, "any", tmp_path, silent)
    assert "Downloading 10 %" in (tmp_path / "stderr.txt").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("work", "error", "words"),
    [
        ('raise BadInput("no such weights")', BadInput, "no such weights"),
        ('raise WeightsUnavailable("the hub is away")', WeightsUnavailable, "the hub is away"),
        ("import torch_that_is_not_there", FamilyNotTrainable, "lacks torch_that_is_not_there"),
        ('raise RuntimeError("out of numbers")', TorchTrainingFailed, "RuntimeError: out of numbers"),
        ("os.kill(os.getpid(), 9)", TorchTrainingFailed, "status -9"),
    ],
)
def test_a_failure_keeps_its_kind_and_its_words(
    interpreter: Interpreter, tmp_path: Path, work: str, error: type[RayonnageError], words: str
) -> None:
    with pytest.raises(error, match=words):
        run_in_torch(interpreter(work), "any", tmp_path, silent)


def test_a_missing_interpreter_says_what_makes_it(tmp_path: Path) -> None:
    with pytest.raises(FamilyNotTrainable, match="make camembert-env"):
        run_in_torch(tmp_path / "bin" / "python", "any", tmp_path, silent)


def test_progress_that_raises_ends_the_child(interpreter: Interpreter, tmp_path: Path) -> None:
    class Cancelled(Exception):
        pass

    def cancel(fraction: float, message: str) -> None:
        if message == "under way":
            raise Cancelled

    with pytest.raises(Cancelled):
        run_in_torch(interpreter('progress(0.1, "under way"); time.sleep(600)'), "any", tmp_path, cancel)

    assert host.wait_until_gone([wait_for(tmp_path / "pid")], PATIENCE_S)


def test_a_silent_child_can_be_cancelled_too(interpreter: Interpreter, tmp_path: Path) -> None:
    class Cancelled(Exception):
        pass

    pid = tmp_path / "pid"

    def cancel(fraction: float, message: str) -> None:
        if pid.exists():
            raise Cancelled

    with pytest.raises(Cancelled):
        run_in_torch(interpreter("time.sleep(600)"), "any", tmp_path, cancel)


def test_a_child_that_is_stuck_is_ended(
    interpreter: Interpreter, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch_process, "_SILENCE_S", 0.2)
    monkeypatch.setattr(torch_process, "_HEARTBEAT_S", 0.1)
    with pytest.raises(TorchTrainingFailed, match="was silent"):
        run_in_torch(interpreter("time.sleep(600)"), "any", tmp_path, silent)


def test_the_child_ends_with_a_parent_that_is_killed(interpreter: Interpreter, tmp_path: Path) -> None:
    python = interpreter("time.sleep(600)")
    command = [sys.executable, "-c", PARENT, str(python), str(tmp_path)]
    with killed_at_end(subprocess.Popen(command)):
        child = wait_for(tmp_path / "pid")
        assert host.is_alive(child)

    assert host.wait_until_gone([child], PATIENCE_S)
