"""The command line as a whole: a setting that is not valid costs one sentence, which names the variable."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import structlog

from rayonnage_shared.cli.main import main
from rayonnage_shared.core.processes import PROCESSES, address_settings
from rayonnage_shared.ops.supervision import ProcessState, Supervisor


@pytest.fixture(autouse=True)
def empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "excepthook", sys.excepthook)  # typer sets its own
    for name in (*address_settings(), "DATABASE_URL", "SECRETS_PATH"):
        monkeypatch.delenv(name, raising=False)
    yield
    structlog.reset_defaults()


def refusal(command: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> str:
    """Return what a command that fails writes to standard error."""
    monkeypatch.setattr(sys, "argv", ["rayonnage", *command.split()])
    with pytest.raises(SystemExit) as left:
        main()
    assert left.value.code == 1
    return capsys.readouterr().err


@pytest.mark.parametrize(
    ("setting", "value", "allowed"),
    [
        ("PREDICT_REPLICAS", "99", "a number of replicas (1 to 16)"),
        ("PREDICT_REPLICAS", "two", "a number of replicas (1 to 16)"),
        ("GATEWAY_PORT", "http", "a port number (1 to 65535)"),
    ],
)
@pytest.mark.parametrize("command", ["status", "dashboard --once", "up"])
def test_a_port_or_a_number_of_replicas(
    command: str,
    setting: str,
    value: str,
    allowed: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv(setting, value)
    running = {one.name: ProcessState(one.name, "running", 1, 1.0) for one in PROCESSES}
    monkeypatch.setattr(Supervisor, "states", lambda _self: running)
    assert f"{setting}={value} is not {allowed}\n" in refusal(command, monkeypatch, capsys)


def test_a_number(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("DRIFT_MIN_ROWS", "some")
    assert refusal("monitor", monkeypatch, capsys).startswith(
        "A setting is not valid: `DRIFT_MIN_ROWS` must be a whole number."
    )


@pytest.mark.parametrize("command", ["migrate", "users list", "dashboard --once", "monitor", "lineage x", "prepare"])
@pytest.mark.parametrize("url", ["nonsense", "mysql://jane:hidden@db/x"])
def test_the_address_of_a_database(
    command: str, url: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("DATABASE_URL", url)
    said = refusal(command, monkeypatch, capsys)
    assert said.startswith("A setting is not valid: `DATABASE_URL` must be sqlite:///path") and "hidden" not in said


@pytest.mark.parametrize("command", ["migrate", "users list", "prepare"])
def test_a_database_that_is_away(
    command: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("DATABASE_URL", "postgresql://jane:hidden@127.0.0.1:1/rayonnage")
    said = refusal(command, monkeypatch, capsys)
    assert said.startswith("The database at DATABASE_URL cannot be used: ") and "hidden" not in said


def test_a_folder_of_secrets(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setenv("SECRETS_PATH", "/nowhere/at/all")
    assert "SECRETS_PATH=/nowhere/at/all is not a readable folder" in refusal("status", monkeypatch, capsys)


def test_what_is_unexpected_keeps_its_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["rayonnage", "status"])
    monkeypatch.setattr("rayonnage_shared.cli.local.effective", lambda _home: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        main()
