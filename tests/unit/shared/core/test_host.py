"""Processes and ports of this machine."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from rayonnage_shared.core import host
from tests.processes import killed_at_end
from tests.waiting import PATIENCE_S, eventually


@pytest.fixture
def sleeper() -> Iterator[subprocess.Popen[bytes]]:
    command = [sys.executable, "-c", "import time; time.sleep(600)"]
    with killed_at_end(subprocess.Popen(command, env=os.environ | {"A_MARK": "x=1"})) as process:
        yield process


def test_a_free_port_is_free() -> None:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        number = probe.getsockname()[1]
    assert host.why_not_free("127.0.0.1", number) is None


def test_a_used_port_names_the_process_that_holds_it() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        reason = host.why_not_free("127.0.0.1", server.getsockname()[1])
    assert reason is not None
    assert f"process {os.getpid()} " in reason
    assert Path(sys.executable).name in reason


def test_an_address_that_is_not_ours_is_named() -> None:
    assert "192.0.2.1" in (host.why_not_free("192.0.2.1", 9) or "")


def test_marked_processes_are_found_by_their_environment(sleeper: subprocess.Popen[bytes]) -> None:
    assert eventually(lambda: sleeper.pid in host.marked("A_MARK", "x=1"))
    assert sleeper.pid not in host.marked("A_MARK", "x")


def test_ends_processes_that_listen_to_sigterm(sleeper: subprocess.Popen[bytes]) -> None:
    host.end([sleeper.pid], within_s=PATIENCE_S)
    assert sleeper.wait() == -signal.SIGTERM


def test_ends_processes_that_do_not() -> None:
    code = "import signal; signal.signal(signal.SIGTERM, signal.SIG_IGN); print(flush=True); signal.pause()"
    with killed_at_end(subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE)) as process:
        assert process.stdout is not None
        process.stdout.readline()
        host.end([process.pid], within_s=0.2)
        assert process.wait() == -signal.SIGKILL


def test_a_process_that_ended_but_was_not_waited_for_counts_as_gone(sleeper: subprocess.Popen[bytes]) -> None:
    sleeper.kill()
    assert host.wait_until_gone([sleeper.pid], PATIENCE_S)
