"""Log lines: every one is kept, with its fields, in the form that its place asks for."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import structlog

from rayonnage_shared.core.settings import ServiceSettings
from rayonnage_shared.observability.logging import set_up_logging


@pytest.fixture(autouse=True)
def logging_put_back() -> Iterator[None]:
    """Leave logging as it was found."""
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    for handler in root.handlers:
        if handler not in handlers:
            handler.close()
    root.handlers[:] = handlers
    root.setLevel(level)
    structlog.reset_defaults()


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def settings(logs: Path, **values: Any) -> ServiceSettings:
    return ServiceSettings(_env_file=None, logs_path=logs, **values)


def test_an_event_stands_in_the_file_and_on_stdout_with_its_fields(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    set_up_logging("demo", settings(tmp_path))
    structlog.contextvars.bind_contextvars(request_id="r-1")
    try:
        structlog.get_logger().info("demo.event", count=3, title="été\nsecond line")
    finally:
        structlog.contextvars.clear_contextvars()
    (line,) = lines(tmp_path / "demo.log")
    assert json.loads(capsys.readouterr().out) == line
    assert line | {"timestamp": ""} == {
        "event": "demo.event",
        "count": 3,
        "title": "été\nsecond line",
        "request_id": "r-1",
        "level": "info",
        "service": "demo",
        "timestamp": "",
    }


def test_a_further_replica_has_a_file_of_its_own_and_says_its_number(tmp_path: Path) -> None:
    set_up_logging("demo", settings(tmp_path, log_to_stdout=False), replica=2)
    structlog.get_logger().info("demo.event")
    (line,) = lines(tmp_path / "demo-2.log")
    assert (line["service"], line["replica"]) == ("demo", 2)
    assert not (tmp_path / "demo.log").exists()


def test_the_standard_librarys_records_take_the_same_form(tmp_path: Path) -> None:
    set_up_logging("demo", settings(tmp_path, log_to_stdout=False))
    logging.getLogger("somebody").warning("%s is late", "a train")
    (line,) = lines(tmp_path / "demo.log")
    assert (line["event"], line["level"], line["service"]) == ("a train is late", "warning", "demo")


def test_secrets_are_masked_in_both(tmp_path: Path) -> None:
    set_up_logging("demo", settings(tmp_path, log_to_stdout=False))
    structlog.get_logger().warning("login", password="hunter2-hunter2", user="ada")
    assert "hunter2" not in (tmp_path / "demo.log").read_text()


def test_an_exception_is_logged_with_its_traceback(tmp_path: Path) -> None:
    set_up_logging("demo", settings(tmp_path, log_to_stdout=False))
    try:
        raise LookupError("nothing there")
    except LookupError:
        structlog.get_logger().exception("demo.failed")
    (line,) = lines(tmp_path / "demo.log")
    assert line["level"] == "error"
    assert "LookupError: nothing there" in line["exception"]


def test_what_is_below_the_level_is_left_out(tmp_path: Path) -> None:
    set_up_logging("demo", settings(tmp_path, log_to_stdout=False, log_level="warning"))
    structlog.get_logger().info("quiet")
    logging.getLogger("somebody").info("quiet too")
    assert (tmp_path / "demo.log").read_text() == ""


def test_stdout_takes_the_console_form_while_the_file_stays_json(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    set_up_logging("demo", settings(tmp_path, log_format="console"))
    structlog.get_logger().info("demo.event", count=3)
    out = capsys.readouterr().out
    assert "demo.event" in out
    assert not out.startswith("{")
    assert lines(tmp_path / "demo.log")[0]["count"] == 3


def test_the_file_rotates_by_size_and_no_line_is_lost(tmp_path: Path) -> None:
    set_up_logging("demo", settings(tmp_path, log_to_stdout=False, log_file_max_bytes=2_000, log_file_count=50))
    for number in range(100):
        structlog.get_logger().info("demo.event", number=number)
    files = sorted(tmp_path.glob("demo.log*"))
    assert len(files) > 3
    assert all(path.stat().st_size <= 2_000 for path in files)
    assert sorted(line["number"] for path in files for line in lines(path)) == list(range(100))
