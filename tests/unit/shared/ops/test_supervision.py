"""The supervisor, over small processes of our own."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from rayonnage_shared.core import host
from rayonnage_shared.core.processes import Port, Process, process
from rayonnage_shared.ops.supervision import MARK, MAX_SOCKET_PATH, Supervisor, socket_path
from tests.ports import free_port
from tests.waiting import PATIENCE_S, eventually

SERVER = """
import http.server, os
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.end_headers()
    def log_message(self, *arguments):
        pass
http.server.HTTPServer(("127.0.0.1", int(os.environ["SERVER_PORT"])), Handler).serve_forever()
"""
IDLER = "import time\nprint('idling', flush=True)\ntime.sleep(600)\n"
STUBBORN = "import signal, time\nsignal.signal(signal.SIGTERM, signal.SIG_IGN)\ntime.sleep(600)\n"


@pytest.fixture
def supervisor(tmp_path: Path) -> Iterator[Supervisor]:
    home = tmp_path / "a home with spaces, 100%"
    home.mkdir()
    for name, code in {"server": SERVER, "idler": IDLER}.items():
        (home / f"standin_{name}.py").write_text(code)
    port = free_port()
    processes = [
        Process(
            "server",
            "standin_server",
            port=Port("SERVER_PORT", port, "SERVER_HOST"),
            environment={"SERVER_PORT": str(port)},
        ),
        Process("idler", "standin_idler"),
    ]
    made = Supervisor(home, {}, processes)
    yield made
    made.stop()


@pytest.fixture
def daemon(supervisor: Supervisor) -> Iterator[subprocess.Popen[bytes]]:
    started = supervisor.start()
    assert supervisor.wait_until_ready(PATIENCE_S) == {}
    yield started
    supervisor.stop()
    started.wait(PATIENCE_S)


def test_says_what_is_missing_when_nothing_runs(supervisor: Supervisor) -> None:
    assert set(supervisor.unready()) == {"server", "idler"}
    assert supervisor.states() == {}
    assert not supervisor.stop()


def test_starts_restarts_and_stops_everything(supervisor: Supervisor, daemon: subprocess.Popen[bytes]) -> None:
    before = supervisor.states()["server"].pid
    assert before
    assert eventually(lambda: "idling" in supervisor.stderr_log("idler").read_text())

    os.kill(before, signal.SIGKILL)
    assert eventually(lambda: supervisor.states()["server"].pid not in {before, None})
    assert supervisor.wait_until_ready(PATIENCE_S) == {}

    assert supervisor.stop()
    assert daemon.wait(PATIENCE_S) == 0, "it ended by itself, and was not killed"
    assert host.marked(MARK, str(supervisor.folder)) == []
    assert not supervisor.socket.exists()


def test_finds_and_ends_what_a_killed_supervisor_left_behind(
    supervisor: Supervisor, daemon: subprocess.Popen[bytes]
) -> None:
    daemon.kill()
    daemon.wait()
    orphans = host.marked(MARK, str(supervisor.folder))
    assert len(orphans) == 2

    assert supervisor.stop()

    assert host.wait_until_gone(orphans, PATIENCE_S)


def test_one_process_is_stopped_and_started_by_name(supervisor: Supervisor, daemon: subprocess.Popen[bytes]) -> None:
    supervisor.stop_process("idler")
    assert supervisor.unready() == {"idler": "not running (stopped)"}
    supervisor.start_process("idler")
    assert eventually(lambda: supervisor.unready() == {})


def test_children_get_the_addresses_of_the_others_and_where_to_log(tmp_path: Path) -> None:
    process = Process("auth", "rayonnage_auth", port=Port("AUTH_PORT", 8011, "AUTH_HOST"), url_setting="AUTH_URL")
    environment = Supervisor(tmp_path, {"AUTH_PORT": "9011"}, [process]).environment()
    assert environment == {
        "AUTH_URL": "http://127.0.0.1:9011",
        "LOGS_PATH": str(tmp_path / "logs"),
        "LOG_TO_STDOUT": "false",
        MARK: str(tmp_path / ".run"),
    }


def test_what_the_user_has_set_is_not_set_again(tmp_path: Path) -> None:
    supervisor = Supervisor(tmp_path, {"LOGS_PATH": "elsewhere", "LOG_TO_STDOUT": "true"}, [])
    assert supervisor.environment() == {MARK: str(tmp_path / ".run")}
    assert supervisor.logs == tmp_path / "elsewhere"


def test_a_socket_path_too_long_for_the_system_moves_to_the_temporary_folder() -> None:
    short, long = Path("/srv/rayonnage/.run"), Path("/srv") / ("x" * 100) / ".run"
    assert socket_path(short) == short / "supervisor.sock"
    assert len(str(socket_path(long))) <= MAX_SOCKET_PATH
    assert socket_path(long) == socket_path(long) != socket_path(long / "other")


def test_each_replica_is_a_program_with_its_own_port(tmp_path: Path) -> None:
    values = {"PREDICT_REPLICAS": "2", "PREDICT_PORT": "9003"}
    supervisor = Supervisor(tmp_path, values, [process("predict")])
    text = supervisor.configuration()
    assert "programs=predict,predict-2\n" in text
    first, second = text.split("[program:")[1:]
    assert "environment" not in first
    assert 'environment=PREDICT_PORT="9013",PREDICT_REPLICA="2"\n' in second
    assert "predict-2.stderr.log" in second
    assert supervisor.environment()["PREDICT_URL"] == "http://127.0.0.1:9003,http://127.0.0.1:9013"


def test_other_commands_learn_what_the_platform_was_started_with(
    supervisor: Supervisor, daemon: subprocess.Popen[bytes]
) -> None:
    port = supervisor.processes[0].port
    assert port is not None
    started = Supervisor(supervisor.home, {"SERVER_PORT": "4711"}, [Process("server", "standin_server", port=port)])
    assert started.as_started().values == {"SERVER_PORT": "", "SERVER_HOST": ""}, "as when it was started"
    assert started.as_started().unready() == {}
    supervisor.stop()
    assert started.as_started().values == {"SERVER_PORT": "4711"}
