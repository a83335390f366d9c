"""A worker process on a database of its own."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from sqlalchemy import Engine

from rayonnage_shared.jobs.queue import JobQueue
from rayonnage_shared.jobs.schemas import FINAL_STATUSES, Job
from tests.ports import free_port
from tests.processes import killed_at_end
from tests.waiting import PATIENCE_S, eventually

ROOT = Path(__file__).parents[3]


@dataclass
class Workers:
    """Starts worker processes and ends them."""

    folder: Path
    database_url: str
    job_types: str = "tests.e2e.jobs.job_types:JOB_TYPES"
    started: list[subprocess.Popen[bytes]] = field(default_factory=list)
    ports: list[int] = field(default_factory=list)

    @property
    def models(self) -> Path:
        return self.folder / "models"

    def start(self, lease_s: float = 4.0) -> subprocess.Popen[bytes]:
        """Start a worker; one that is to lose its job soon after its death gets a short lease."""
        port = free_port()
        environment = os.environ | {
            "DATABASE_URL": self.database_url,
            "MODELS_PATH": str(self.models),
            "TRAIN_LEASE_S": str(lease_s),
            "TRAIN_WORKER_METRICS_PORT": str(port),
            "LOGS_PATH": str(self.folder / "logs"),
            "LOG_TO_STDOUT": "false",
            "PYTHONPATH": str(ROOT),
        }
        command = [sys.executable, "-m", "rayonnage_train.worker", "--job-types", self.job_types]
        process = subprocess.Popen(command, cwd=self.folder, env=environment)
        self.started.append(process)
        self.ports.append(port)
        return process

    def let_go(self) -> None:
        """Let jobs that are held in a stage go on."""
        (self.models / "go").touch()

    def end(self) -> None:
        for process in self.started:
            process.send_signal(signal.SIGTERM)
        with contextlib.ExitStack() as stack:
            for process in self.started:
                stack.enter_context(killed_at_end(process))
            for process in self.started:
                process.wait(PATIENCE_S)


@pytest.fixture
def queue(engine: Engine) -> JobQueue:
    return JobQueue(engine)


@pytest.fixture
def workers(tmp_path: Path, database_url: str, engine: Engine) -> Iterator[Workers]:
    started = Workers(tmp_path, database_url)
    started.models.mkdir()
    yield started
    started.end()


def ended(queue: JobQueue, job_id: str) -> Job:
    """Return the job once it has ended."""
    assert eventually(lambda: queue.get(job_id).status in FINAL_STATUSES)
    return queue.get(job_id)
