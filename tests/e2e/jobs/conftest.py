"""A worker process on a database of its own."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from sqlalchemy import Engine

from rayonnage_shared.jobs.queue import JobQueue
from rayonnage_shared.jobs.schemas import FINAL_STATUSES, Job

ROOT = Path(__file__).parents[3]


@dataclass
class Workers:
    """Starts worker processes and ends them."""

    folder: Path
    database_url: str
    kinds: str = "tests.e2e.jobs.job_kinds:KINDS"
    started: list[subprocess.Popen[bytes]] = field(default_factory=list)
    ports: list[int] = field(default_factory=list)

    @property
    def models(self) -> Path:
        return self.folder / "models"

    def start(self, lease_s: float = 1.0) -> subprocess.Popen[bytes]:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        environment = os.environ | {
            "DATABASE_URL": self.database_url,
            "MODELS_PATH": str(self.models),
            "TRAIN_LEASE_S": str(lease_s),
            "TRAIN_WORKER_METRICS_PORT": str(port),
            "LOGS_PATH": str(self.folder / "logs"),
            "LOG_TO_STDOUT": "false",
            "PYTHONPATH": str(ROOT),
        }
        command = [sys.executable, "-m", "rayonnage_train.worker", "--kinds", self.kinds]
        process = subprocess.Popen(command, cwd=self.folder, env=environment)
        self.started.append(process)
        self.ports.append(port)
        return process

    def end(self) -> None:
        for process in self.started:
            process.send_signal(signal.SIGTERM)
        for process in self.started:
            process.wait(20)


@pytest.fixture
def queue(engine: Engine) -> JobQueue:
    return JobQueue(engine)


@pytest.fixture
def workers(tmp_path: Path, database_url: str, engine: Engine) -> Iterator[Workers]:
    started = Workers(tmp_path, database_url)
    started.models.mkdir()
    yield started
    started.end()


def wait_for(condition: Callable[[], bool], seconds: float = 20.0) -> None:
    """Return once `condition` holds; fail after `seconds`."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.05)


def ended(queue: JobQueue, job_id: str, seconds: float = 30.0) -> Job:
    """Return the job once it has ended."""
    wait_for(lambda: queue.get(job_id).status in FINAL_STATUSES, seconds)
    return queue.get(job_id)
