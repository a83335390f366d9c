"""Debian packages and the Docker engine, with scripts in their place."""

from __future__ import annotations

import signal
import subprocess
from pathlib import Path

import pytest

from machine import Engine, missing_packages, stopped
from rayonnage_shared.core import host
from tests.waiting import PATIENCE_S


@pytest.fixture
def commands(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty folder at the head of the search path."""
    folder = tmp_path / "commands"
    folder.mkdir()
    monkeypatch.setenv("PATH", f"{folder}:/usr/bin:/bin")
    return folder


def script(path: Path, text: str) -> Path:
    """Write an executable script."""
    path.write_text(f"#!/bin/sh\n{text}\n")
    path.chmod(0o755)
    return path


@pytest.fixture
def engine_up(tmp_path: Path, commands: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A script that starts an engine, which is a file; `docker` answers while that exists and is pointed to."""
    script(commands / "docker", '[ -n "$FAKE_ENGINE" ] && [ -e "$FAKE_ENGINE" ] && echo an/image:1')
    folder = tmp_path / "engine"
    folder.mkdir()
    script(folder / "standin", 'echo "$@" >"$FAKE_ENGINE.images"; exit 3')
    script(folder / "down.sh", f'rm "$1/dockerd.pid"; touch {tmp_path}/stopped')
    up = folder / "up.sh"
    up.write_text('touch "$1/dockerd.pid"; export FAKE_ENGINE="$1/dockerd.pid"\n')
    monkeypatch.setenv("RAYONNAGE_ENGINE_UP", str(up))
    monkeypatch.setattr("os.geteuid", lambda: 0)
    return up


def test_a_command_is_stopped_with_its_children() -> None:
    command = ["sh", "-c", "sleep 600 & echo $!; wait"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, start_new_session=True) as process:
        assert process.stdout is not None
        with stopped(process):
            child = int(process.stdout.readline())
        assert process.returncode == -signal.SIGTERM
        assert host.wait_until_gone([child], PATIENCE_S)


def test_a_package_is_missing_when_its_command_is(commands: Path) -> None:
    script(commands / "an-installed-command", "")
    table = {"one": "an-installed-command", "two": "a-command-that-nobody-has"}
    assert missing_packages(table) == ["two"]


def test_an_engine_that_answers_is_used_as_it_is(commands: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    script(commands / "docker", "exit 0")
    monkeypatch.setenv("RAYONNAGE_ENGINE_UP", "/nonexistent/up.sh")
    engine = Engine()
    assert engine.why_missing == ""
    assert engine.wait()
    assert engine.environment == {}
    engine.end()


def test_an_engine_is_started_by_the_script_that_the_environment_names(engine_up: Path, tmp_path: Path) -> None:
    engine = Engine()
    assert engine.why_missing == ""
    assert engine.wait()
    pid_file = Path(engine.environment["FAKE_ENGINE"])
    assert pid_file.exists()
    assert Path(f"{pid_file}.images").read_text() == "python:3.13-slim an/image:1\n"

    engine.end()
    assert (tmp_path / "stopped").exists()
    assert not pid_file.parent.exists()


def test_an_engine_that_does_not_start_says_why(engine_up: Path, capsys: pytest.CaptureFixture[str]) -> None:
    engine_up.write_text("echo there is no dockerd >&2; return 1\n")
    engine = Engine()
    assert not engine.wait()
    assert "there is no dockerd" in capsys.readouterr().out
    engine.end()


def test_only_root_can_start_an_engine(engine_up: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.geteuid", lambda: 1000)
    assert "only root can start" in Engine().why_missing
