"""A job's process ends when its lease is lost, whatever went wrong in between."""

from __future__ import annotations

import os
import threading
from typing import cast

import pytest
from structlog.testing import capture_logs

from rayonnage_shared.jobs.leases import JobLeases, LeaseLost
from rayonnage_shared.jobs.rows import HeldJob
from rayonnage_train import runner
from rayonnage_train.runner import EXIT_LEASE_LOST, watch_lease
from tests.waiting import PATIENCE_S

HELD = HeldJob(job_id="job-1", kind="train", lease_token="token", request={}, submitted_by="jane", attempts=1)


class FailingLeases:
    """Leases that fail in unexpected ways before they say that the lease is lost."""

    def __init__(self) -> None:
        self.failures: list[Exception] = [LeaseLost("another worker has it"), MemoryError(), RuntimeError("driver")]

    def held(self, job_id: str, token: str) -> None:
        raise self.failures.pop()


def test_the_lease_is_watched_after_every_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    ended = threading.Event()
    statuses = []

    def end(status: int) -> None:
        statuses.append(status)
        ended.set()
        threading.Event().wait()  # the daemon thread goes no further, as if the process had ended

    monkeypatch.setattr(os, "_exit", end)
    monkeypatch.setattr(runner, "WATCH_EVERY_S", 0.0)
    with capture_logs() as logs:
        watch_lease(cast(JobLeases, FailingLeases()), HELD)
        assert ended.wait(PATIENCE_S)

    assert statuses == [EXIT_LEASE_LOST]
    assert [entry["event"] for entry in logs] == ["job.lease_check_failed"] * 2
