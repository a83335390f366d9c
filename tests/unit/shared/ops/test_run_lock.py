"""One run at a time from one folder."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from rayonnage_shared.ops.run_lock import AlreadyRunning, holder, only_run

HOLD = """
import pathlib, sys, time
from rayonnage_shared.ops.run_lock import only_run
with only_run(pathlib.Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(60)
"""


def test_a_second_run_names_the_process_of_the_first(tmp_path: Path) -> None:
    with only_run(tmp_path), pytest.raises(AlreadyRunning) as caught, only_run(tmp_path):
        pass
    assert caught.value.pid == os.getpid()


def test_nobody_holds_a_lock_that_was_given_back(tmp_path: Path) -> None:
    assert holder(tmp_path) is None
    with only_run(tmp_path):
        assert holder(tmp_path) == os.getpid()
    assert holder(tmp_path) is None


def test_a_killed_run_holds_nothing(tmp_path: Path) -> None:
    with subprocess.Popen([sys.executable, "-c", HOLD, str(tmp_path)], stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        assert holder(tmp_path) == process.pid
        process.kill()
    assert holder(tmp_path) is None
    with only_run(tmp_path):
        pass
