"""`rayonnage logs`: lines of JSON are shown as readable text, other lines as they are."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from rayonnage_shared.cli.main import create_app
from rayonnage_shared.ops.log_following import LogFollower


def test_events_are_shown_in_the_console_form_and_other_lines_as_they_are(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    event = {"event": "http.request", "service": "predict", "level": "info", "timestamp": "2026-11-21T14:53:29.8Z"}
    logs = tmp_path / "logs"
    logs.mkdir()
    (logs / "predict.log").write_text(json.dumps({**event, "status": 200, "path": "/predict"}) + "\n")
    (logs / "predict.stderr.log").write_text("Segmentation fault [core dumped] {1}\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(LogFollower, "follow", lambda self: self.poll())

    result = CliRunner().invoke(create_app(["local"]), ["logs"], env={"COLUMNS": "60"})

    assert result.exit_code == 0, result.output
    first, second = sorted(result.output.splitlines(), key=lambda line: "predict.stderr" in line)
    assert first.split() == [
        *("predict", "2026-11-21T14:53:29.8Z", "[info", "]", "http.request"), "path=/predict", "status=200"
    ]  # fmt: skip
    assert second.strip() == "predict.stderr Segmentation fault [core dumped] {1}"


def test_the_output_of_docker_compose_logs_is_shown_in_the_console_form_with_the_names_of_its_containers() -> None:
    event = {"event": "http.request", "service": "predict", "level": "info", "timestamp": "2026-11-21T14:53:29.8Z"}
    piped = (
        f"predict-2   | {json.dumps({**event, 'status': 200, 'path': '/predict'})}\n"
        "postgres-1  | 2026-11-21 14:53:30 UTC [1] LOG:  a | b {1}\n"
    )

    result = CliRunner().invoke(create_app(["local"]), ["logs", "-"], input=piped, env={"COLUMNS": "60"})

    assert result.exit_code == 0, result.output
    first, second = result.output.splitlines()
    assert first.split() == [
        *("predict-2", "2026-11-21T14:53:29.8Z", "[info", "]", "http.request"), "path=/predict", "status=200"
    ]  # fmt: skip
    assert second.strip() == "postgres-1 2026-11-21 14:53:30 UTC [1] LOG:  a | b {1}"


def test_a_file_can_only_be_searched() -> None:
    result = CliRunner().invoke(create_app(["local"]), ["logs", "saved.log"])

    assert result.exit_code == 2
    assert "--request" in result.output
