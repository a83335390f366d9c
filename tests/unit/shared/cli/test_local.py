"""`rayonnage status`."""

from __future__ import annotations

import pytest
import typer
from typer.testing import CliRunner

from rayonnage_shared.cli import local
from rayonnage_shared.core.processes import PROCESSES
from rayonnage_shared.ops.supervision import ProcessState, Supervisor


def test_a_process_that_the_supervisor_does_not_know_is_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    known = {one.name: ProcessState(one.name, "running", 7, 60.0) for one in PROCESSES if one.name != "predict"}
    monkeypatch.setattr(Supervisor, "states", lambda _self: known)
    app = typer.Typer()
    local.register(app)

    result = CliRunner().invoke(app, ["status"], catch_exceptions=False)

    (row,) = (line for line in result.output.splitlines() if " predict " in line)
    assert "unknown" in row
    assert result.exit_code == 1
