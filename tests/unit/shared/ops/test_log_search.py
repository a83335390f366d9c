"""One request is found in the logs of all services, whole and in the order of time."""

from __future__ import annotations

import io
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import structlog

from rayonnage_shared.core.settings import ServiceSettings
from rayonnage_shared.observability.logging import set_up_logging
from rayonnage_shared.ops.log_search import find_request, log_files
from tests.processor_time import relative_cost
from tests.unit.shared.observability.test_logging import logging_put_back  # noqa: F401 - used by each test
from tests.waiting import PATIENCE_S

WANTED = "01KXWANTED0000000000000000"


def line(second: int, event: str, request_id: str | None = WANTED, **fields: Any) -> str:
    moment = f"2026-11-21T10:00:{second:02}.000000Z"
    about = {"request_id": request_id} if request_id else {}
    return json.dumps({"event": event, **fields, **about, "level": "info", "timestamp": moment})


def write(path: Path, *lines: str) -> None:
    path.write_text("".join(f"{one}\n" for one in lines), encoding="utf-8")


def found(folder: Path, request_id: str = WANTED) -> list[str]:
    return [str(one.event["event"]) for one in find_request(log_files(folder), (), request_id)]


def command(folder: Path, *arguments: str, piped: str = "") -> subprocess.CompletedProcess[str]:
    """Run the command line in a folder of its own."""
    return subprocess.run(
        [sys.executable, "-m", "rayonnage_shared.cli.main", "logs", *arguments],
        cwd=folder,
        input=piped,
        capture_output=True,
        text=True,
        check=False,
        timeout=PATIENCE_S,
    )


def test_the_lines_of_all_services_come_in_the_order_of_time(tmp_path: Path) -> None:
    write(tmp_path / "gateway.log", line(1, "first"), line(5, "fifth"))
    write(tmp_path / "predict.log", line(2, "another", "other-request"), line(3, "third"))
    write(tmp_path / "predict.log.1", line(2, "second"))
    write(tmp_path / "predict.log.12", line(0, "zeroth"))
    assert found(tmp_path) == ["zeroth", "first", "second", "third", "fifth"]


def test_a_request_that_is_only_spoken_of_is_not_it(tmp_path: Path) -> None:
    write(
        tmp_path / "a.log",
        line(1, "path", "other-request", path=f"/{WANTED}"),
        line(2, "longer", f"{WANTED}0"),
        f"not JSON {WANTED}",
        line(3, "it"),
    )
    (tmp_path / "empty.log").touch()
    (tmp_path / "notes.txt").write_text(line(4, "elsewhere"))
    assert found(tmp_path) == ["it"]


def test_a_last_line_without_its_end_counts(tmp_path: Path) -> None:
    (tmp_path / "a.log").write_text(line(1, "one") + "\n" + line(2, "two"))
    assert found(tmp_path) == ["one", "two"]


def test_the_job_that_a_request_queued_belongs_to_it(tmp_path: Path) -> None:
    write(tmp_path / "train.log", line(1, "job.queued", job_id="job-1"), line(1, "http.request"))
    write(
        tmp_path / "train-worker.log",
        line(2, "job.started", None, job_id="job-1"),
        line(3, "job.started", None, job_id="job-2"),
    )
    write(tmp_path / "train-runner.log", line(4, "job.stage_started", None, job_id="job-1"))
    assert found(tmp_path) == ["job.queued", "http.request", "job.started", "job.stage_started"]


def test_what_a_service_writes_is_found_though_the_file_has_rotated(tmp_path: Path) -> None:
    set_up_logging(
        "demo", ServiceSettings(_env_file=None, logs_path=tmp_path, log_to_stdout=False, log_file_max_bytes=1500)
    )
    with structlog.contextvars.bound_contextvars(request_id=WANTED):
        for number in range(20):
            structlog.get_logger().info("demo.event", number=number)
    assert (tmp_path / "demo.log.1").exists()
    events = [one.event for one in find_request(log_files(tmp_path), (), WANTED)]
    assert [event["number"] for event in events] == list(range(20))
    assert {event["service"] for event in events} == {"demo"}


def test_the_command_shows_them_in_the_form_for_people(tmp_path: Path) -> None:
    (tmp_path / "logs").mkdir()
    write(tmp_path / "logs" / "gateway.log", line(1, "http.request", service="gateway", status=200))
    shown = command(tmp_path, "--request", WANTED)
    assert shown.returncode == 0, shown.stderr
    assert shown.stdout.split()[0] == "gateway"
    assert "http.request" in shown.stdout and "status=200" in shown.stdout


def test_the_command_says_when_there_is_nothing(tmp_path: Path) -> None:
    shown = command(tmp_path, "--request", WANTED)
    assert (shown.returncode, shown.stdout) == (1, "")
    assert WANTED in shown.stderr


@pytest.mark.parametrize("prefix", ["", "predict-1  | "])
def test_the_command_reads_what_containers_print(tmp_path: Path, prefix: str) -> None:
    piped = f"{prefix}{line(1, 'predicted')}\n{prefix}{line(2, 'elsewhere', 'other-request')}\n{prefix}Traceback\n"
    shown = command(tmp_path, "--request", WANTED, "-", piped=piped)
    assert shown.returncode == 0, shown.stderr
    assert "predicted" in shown.stdout and "elsewhere" not in shown.stdout


def test_a_hundred_megabytes_take_seconds(tmp_path: Path) -> None:
    other = (line(1, "http.request", "01KXOTHER00000000000000000", path="/predict", duration_ms=1.25) + "\n").encode()
    with (tmp_path / "predict.log").open("wb") as file:
        for _ in range(100):
            file.write(other * (1_000_000 // len(other)))
        file.write(line(2, "it").encode() + b"\n")
    assert found(tmp_path) == ["it"]
    assert relative_cost(lambda: found(tmp_path), rounds=1) < 5000  # 30


def test_lines_come_from_a_pipe_once() -> None:
    piped = io.BytesIO(
        f"{line(1, 'job.queued', job_id='j')}\n{line(2, 'job.process_ended', None, job_id='j')}\n".encode()
    )
    assert [one.event["event"] for one in find_request([], piped, WANTED)] == ["job.queued", "job.process_ended"]
