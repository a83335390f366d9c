"""The train process as the supervisor starts it: streams over real sockets."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import httpx2
import pytest
from sqlalchemy import Engine

from rayonnage_shared.jobs.leases import JobLeases
from rayonnage_shared.jobs.queue import JobQueue
from tests.ports import free_port
from tests.processes import killed_at_end
from tests.tokens import SECRET, bearer
from tests.waiting import PATIENCE_S, eventually


@pytest.fixture
def train(tmp_path: Path, engine: Engine, database_url: str) -> Iterator[tuple[subprocess.Popen[bytes], str]]:
    """A ready train process with one place for a stream, and its address; `engine` has migrated the database."""
    port = free_port()
    environment = os.environ | {
        "TRAIN_PORT": str(port),
        "TRAIN_MAX_EVENT_STREAMS": "1",
        "DATABASE_URL": database_url,
        "MODELS_PATH": str(tmp_path / "models"),
        "DATA_PATH": str(tmp_path / "data"),
        "ALGORITHM": "HS256",
        "SECRET_KEY": SECRET,
        "AUTH_URL": "http://127.0.0.1:9",
    }
    command = [sys.executable, "-m", "rayonnage_train"]
    address = f"http://127.0.0.1:{port}"

    def ready() -> bool:
        assert process.poll() is None, "train ended before it was ready"
        with contextlib.suppress(httpx2.TransportError):
            return httpx2.get(f"{address}/health/ready", timeout=PATIENCE_S).status_code == 200
        return False

    with killed_at_end(subprocess.Popen(command, cwd=tmp_path, env=environment)) as process:
        assert eventually(ready)
        yield process, address


def client(address: str) -> httpx2.Client:
    return httpx2.Client(base_url=address, headers=bearer("claire", "admin"), timeout=PATIENCE_S)


def statuses(answer: httpx2.Response) -> Iterator[str]:
    """Yield the job's status from each event as it arrives."""
    for line in answer.iter_lines():
        if line.startswith("data: "):
            yield json.loads(line.removeprefix("data: "))["status"]


def test_events_arrive_while_the_job_changes_and_a_caller_who_leaves_gives_the_place_back(
    train: tuple[subprocess.Popen[bytes], str], engine: Engine
) -> None:
    _, address = train
    leases = JobLeases(engine)
    job = JobQueue(engine).submit("train", {}, by="claire", concurrency_group="models")
    path = f"/train/jobs/{job.job_id}/events"
    with client(address) as caller, caller.stream("GET", path) as answer:
        seen = statuses(answer)
        assert next(seen) == "queued"
        assert caller.get(path).status_code == 503
    with client(address) as caller:
        held = leases.claim(["train"], 60)
        assert held is not None
        with open_stream(caller, path) as answer:
            seen = statuses(answer)
            assert next(seen) == "running"
            leases.succeed(held, {})
            assert list(seen) == ["succeeded"]


@contextlib.contextmanager
def open_stream(caller: httpx2.Client, path: str) -> Iterator[httpx2.Response]:
    """Open the stream as soon as its place is free again."""
    deadline = time.monotonic() + PATIENCE_S
    while True:
        with caller.stream("GET", path) as answer:
            if answer.status_code == 200:
                yield answer
                return
        assert time.monotonic() < deadline, "the place did not come back"
        time.sleep(0.05)


def test_sigterm_ends_open_streams_and_the_process_within_seconds(
    train: tuple[subprocess.Popen[bytes], str], engine: Engine
) -> None:
    process, address = train
    job = JobQueue(engine).submit("train", {}, by="claire", concurrency_group="models")
    with client(address) as caller, caller.stream("GET", f"/train/jobs/{job.job_id}/events") as answer:
        seen = statuses(answer)
        assert next(seen) == "queued"
        process.send_signal(signal.SIGTERM)
        assert list(seen) == []
    assert process.wait(PATIENCE_S) in (0, -signal.SIGTERM)
