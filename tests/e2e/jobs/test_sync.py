"""A worker's follow-up with an MLflow that never answers: nothing waits, nothing is left behind."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from rayonnage_shared.core import host
from rayonnage_shared.jobs.queue import JobQueue
from tests.e2e.jobs.conftest import Workers, ended
from tests.processes import children
from tests.unit.shared.ml.bundles.manifests import VERSION, write_bundle
from tests.waiting import PATIENCE_S, eventually

SYNC = "rayonnage_train.sync"


@pytest.fixture
def silent_mlflow(monkeypatch: pytest.MonkeyPatch) -> Iterator[socket.socket]:
    """A server that takes connections and says nothing; every worker's MLflow is there."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://127.0.0.1:{server.getsockname()[1]}")
        monkeypatch.setenv("MLFLOW_HTTP_REQUEST_TIMEOUT", "300")
        monkeypatch.setenv("DVC_REMOTE_URL", "")
        yield server


def with_sync_process(workers: Workers) -> tuple[subprocess.Popen[bytes], int]:
    """Return a worker and its child that waits for MLflow."""
    write_bundle(workers.models, VERSION)
    worker = workers.start()
    assert eventually(lambda: children(worker.pid, SYNC))
    return worker, children(worker.pid, SYNC)[0]


def test_jobs_run_while_mlflow_does_not_answer(workers: Workers, queue: JobQueue, silent_mlflow: socket.socket) -> None:
    _, sync_process = with_sync_process(workers)

    job = ended(queue, queue.submit("in_stages", {}, by="claire", concurrency_group="models").job_id)

    assert (job.status, job.attempts) == ("succeeded", 1)
    assert host.is_alive(sync_process)


def test_a_stopped_worker_takes_its_sync_process_along(workers: Workers, silent_mlflow: socket.socket) -> None:
    worker, sync_process = with_sync_process(workers)

    worker.terminate()

    assert worker.wait(PATIENCE_S) == 0, "it does not wait for MLflow, which never answers"
    assert not host.is_alive(sync_process)


def test_a_killed_worker_takes_its_sync_process_along(workers: Workers, silent_mlflow: socket.socket) -> None:
    worker, sync_process = with_sync_process(workers)
    assert eventually(lambda: os.getpgid(sync_process) == sync_process)
    silent_mlflow.settimeout(PATIENCE_S)
    silent_mlflow.accept()[0].close()  # it is at work, and so has asked to end with its parent

    worker.kill()
    worker.wait()

    assert host.wait_until_gone([sync_process], PATIENCE_S)


def test_a_sync_process_without_pending_work_ends(
    workers: Workers, silent_mlflow: socket.socket, tmp_path: Path
) -> None:
    worker, _ = with_sync_process(workers)
    shutil.rmtree(workers.models / VERSION)
    silent_mlflow.close()

    assert eventually(lambda: not children(worker.pid, SYNC))

    time.sleep(3)
    assert not children(worker.pid, SYNC)
