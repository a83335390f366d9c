"""A process that ends with its parent."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

from rayonnage_shared.core import host
from tests.waiting import PATIENCE_S

SHARED = Path(__file__).parents[4] / "shared"
CHILD = """
import sys, time
sys.path.insert(0, sys.argv[2])
from rayonnage_shared.core.parent_process import die_with
die_with(int(sys.argv[1]))
print("ready", flush=True)
time.sleep(600)
"""
PARENT = """
import os, subprocess, sys
child = subprocess.Popen([sys.executable, "-S", "-c", sys.argv[1], str(os.getpid()), sys.argv[2]])
print(child.pid, flush=True)
child.wait()
"""


def test_a_process_ends_with_its_killed_parent_and_needs_only_the_standard_library() -> None:
    with subprocess.Popen(
        [sys.executable, "-c", PARENT, CHILD, str(SHARED)], stdout=subprocess.PIPE, text=True
    ) as parent:
        assert parent.stdout is not None
        lines = {parent.stdout.readline().strip(), parent.stdout.readline().strip()}
        assert "ready" in lines
        (child,) = (int(line) for line in lines - {"ready"})
        parent.send_signal(signal.SIGKILL)
        parent.wait()
        assert host.wait_until_gone([child], PATIENCE_S)


def test_a_process_whose_parent_is_another_one_ends_at_once() -> None:
    done = subprocess.run([sys.executable, "-S", "-c", CHILD, "1", str(SHARED)], capture_output=True, check=False)
    assert (done.returncode, done.stdout) == (os.EX_TEMPFAIL, b"")
