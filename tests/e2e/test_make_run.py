"""`rayonnage up`, which `make run` is: starting, refusing, recovering and stopping."""

from __future__ import annotations

import os
import re
import shutil
import signal
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import httpx2
import pytest

from rayonnage_shared.core import host
from rayonnage_shared.core.processes import PROCESSES, process, with_replicas
from rayonnage_shared.ops.env_file import effective
from rayonnage_shared.ops.local import example_call
from tests.e2e.local_run import Run
from tests.e2e.platform import Platform
from tests.waiting import PATIENCE_S, eventually


@pytest.fixture
def run(tmp_path: Path) -> Iterator[Run]:
    made = Run(tmp_path)
    yield made
    made.end()


def test_starts_everything_once_and_stops_on_ctrl_c(run: Run) -> None:
    run.environment["PREDICT_REPLICAS"] = "2"
    started = run.up_and_ready()
    del run.environment["PREDICT_REPLICAS"]  # other commands are run from another terminal

    env = effective(run.home, {})
    assert f"password {env['ADMIN_PASSWORD']}" in run.output
    assert "There is no model yet" in run.output
    gateway = f"http://127.0.0.1:{run.ports['GATEWAY_PORT']}"
    assert f"{gateway}/docs" in run.output
    credentials = {"username": env["ADMIN_USERNAME"], "password": env["ADMIN_PASSWORD"]}
    assert httpx2.post(f"{gateway}/token", data=credentials, timeout=PATIENCE_S).status_code == 200
    table = run.command("status").stdout
    assert all(f" {one.name} " in table for one in with_replicas({"PREDICT_REPLICAS": "2"}))
    replica = f"http://127.0.0.1:{run.ports['PREDICT_PORT'] + 10}"
    assert replica in run.output
    assert httpx2.get(f"{replica}/health/live", timeout=PATIENCE_S).status_code == 200
    assert " predict-2 " in run.command("dashboard", "--once").stdout
    assert (run.home / "logs" / "gateway.log").stat().st_size > 0

    second = run.command("up")
    assert second.returncode == 0
    assert f"is already running or starting from this folder (process {started.pid})" in second.stdout

    started.send_signal(signal.SIGINT)
    assert started.wait(PATIENCE_S) == 0
    assert run.left() == []
    assert "Stopped." in run.output
    assert "Not running" in run.command("status").stdout


def test_a_used_port_is_named_with_its_holder_and_its_setting(run: Run) -> None:
    with socket.create_server(("127.0.0.1", run.ports["PREDICT_PORT"])):
        refused = run.command("up")
    assert refused.returncode == 1
    assert re.search(
        rf"Port {run.ports['PREDICT_PORT']} \(predict\) is in use by process {os.getpid()} ", refused.stderr
    )
    assert "PREDICT_PORT=" in refused.stderr
    assert run.left() == []


def test_a_wrong_setting_is_shown_and_nothing_stays(run: Run) -> None:
    run.environment["PREDICT_RATE_LIMIT"] = "often"
    started = run.up()
    assert started.wait(PATIENCE_S) == 1
    assert "gateway: keeps crashing" in run.output
    assert "A setting is not valid: `PREDICT_RATE_LIMIT`" in run.output
    assert run.left() == []


def test_recovers_from_a_run_whose_supervisor_was_killed_and_is_stopped_by_stop(run: Run) -> None:
    first = run.up_and_ready()
    supervisor = run.supervisor().pid()
    assert supervisor is not None
    first.kill()
    first.wait()
    os.kill(supervisor, signal.SIGKILL)
    assert eventually(lambda: not host.is_alive(supervisor))
    assert len(run.left()) >= len(PROCESSES)
    secrets = (run.home / ".env").read_bytes()

    second = run.up_and_ready()

    assert "Stopped processes left by an earlier run." in run.output
    assert (run.home / ".env").read_bytes() == secrets
    assert effective(run.home, {})["ADMIN_PASSWORD"] not in run.output, "it is shown once"

    assert "Stopped." in run.command("stop").stdout
    assert second.wait(PATIENCE_S) == 0
    assert run.left() == []
    assert "Nothing was running." in run.command("stop").stdout


def test_a_supervisor_that_falls_takes_the_rest_with_it_and_says_so(run: Run) -> None:
    started = run.up_and_ready()
    supervisor = run.supervisor().pid()
    assert supervisor is not None
    os.kill(supervisor, signal.SIGKILL)
    assert started.wait(PATIENCE_S) == 1
    assert "supervisor exited unexpectedly" in run.output
    assert run.left() == []


def test_a_platform_left_running_by_a_killed_make_run_is_found(run: Run) -> None:
    first = run.up_and_ready()
    first.kill()
    first.wait()

    second = run.command("up")
    assert second.returncode == 0
    assert "already runs from this folder, left by an earlier start" in second.stdout

    assert "Stopped." in run.command("stop").stdout
    assert run.left() == []


@pytest.mark.skipif(shutil.which("curl") is None, reason="needs curl")
def test_the_printed_call_works_as_pasted(platform: Platform, sample: Path) -> None:
    target = platform.home / "data" / "sample"
    target.mkdir(parents=True, exist_ok=True)
    shutil.copy(sample / "exemple.jpg", target)
    port = process("gateway").port
    assert port is not None

    answer = subprocess.run(
        ["sh", "-c", example_call(port.address(platform.values))],
        check=False,
        cwd=platform.home,
        capture_output=True,
        text=True,
    )

    assert '"predictions"' in answer.stdout, answer.stdout + answer.stderr
