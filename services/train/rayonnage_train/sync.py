"""Sync MLflow and DVC beside the jobs: the child process that syncs, and what supervises it in the worker.

The child is `python -m rayonnage_train.sync`. It may be killed at any moment, since sync targets are idempotent.
"""

from __future__ import annotations

import argparse
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence

import structlog

from rayonnage_shared.core.parent_process import die_with
from rayonnage_shared.observability.logging import set_up_logging
from rayonnage_shared.sync.base import SyncTarget
from rayonnage_shared.sync.runner import last_success, missing_parts, sync, sync_targets
from rayonnage_train.children import describe_exit, exited_within, signal_group
from rayonnage_train.settings import TrainSettings
from rayonnage_train.worker_metrics import WorkerMetrics

log = structlog.get_logger()

CHECK_EVERY_S = 2.0
FIRST_PAUSE_S, LONGEST_PAUSE_S = 1.0, 60.0
STOP_GRACE_S = 1.0
NICENESS = 15  # below jobs, which are below predictions


class SyncProcess:
    """Spawns the child when a sync target has pending work, and reaps it. Every call but `stop` returns at once.

    While work stays pending, such as while MLflow is down, the pause between two children doubles up to a minute.
    """

    def __init__(
        self,
        settings: TrainSettings,
        metrics: WorkerMetrics,
        *,
        chosen: Sequence[SyncTarget] | None = None,
        command: Sequence[str] = (sys.executable, "-m", "rayonnage_train.sync"),
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._settings = settings
        self._metrics = metrics
        self._chosen = chosen
        for part in missing_parts(settings, asked_for=True):
            log.warning("sync.part_missing", remedy=part.remedy)
        self._command = [*command, "--parent", str(os.getpid())]
        self._clock = clock
        self.child: subprocess.Popen[bytes] | None = None
        self._started_at = 0.0
        self._next_check = self._not_before = float("-inf")
        self._pause_s = FIRST_PAUSE_S
        self._reported: set[str] = set()

    def tick(self) -> None:
        """Start the child, reap it, or kill it when it takes too long."""
        now = self._clock()
        if self.child is not None:
            self._reap(self.child, now)
        elif now >= self._next_check:
            self._next_check = now + CHECK_EVERY_S
            if not self._any_pending():
                self._pause_s = FIRST_PAUSE_S
            elif now >= self._not_before:
                # In its own process group, so that its children are killed with it.
                self.child = subprocess.Popen(self._command, stdin=subprocess.DEVNULL, start_new_session=True)
                self._started_at = now

    def stop(self) -> None:
        """Stop the child within a second."""
        if self.child is not None:
            signal_group(self.child, signal.SIGTERM)
            exited_within(self.child, STOP_GRACE_S)
            signal_group(self.child, signal.SIGKILL)
            self.child.wait()
            self.child = None

    def _reap(self, child: subprocess.Popen[bytes], now: float) -> None:
        status = child.poll()
        if status is None:
            if now - self._started_at > self._settings.train_sync_limit_s:
                log.warning("sync.too_slow", limit_s=self._settings.train_sync_limit_s)
                signal_group(child, signal.SIGKILL)
            return
        if status not in (0, os.EX_TEMPFAIL):
            log.warning("sync.failed", how=f"its process {describe_exit(status)}")
        signal_group(child, signal.SIGKILL)  # its own children
        self.child = None
        self._not_before = now + self._pause_s
        self._pause_s = min(2 * self._pause_s, LONGEST_PAUSE_S)

    def _any_pending(self) -> bool:
        """Return whether any target has pending work; update the metrics."""
        found = False
        for one in self._targets():
            pending = self._is_pending(one)
            self._metrics.synced(one.name, pending=pending, last_success=last_success(self._settings, one.name))
            found = found or pending
        return found

    def _targets(self) -> Sequence[SyncTarget]:
        """Return the targets; those of a part that is installed while the platform runs appear by themselves."""
        return sync_targets(self._settings) if self._chosen is None else self._chosen

    def _is_pending(self, target: SyncTarget) -> bool:
        try:
            pending = target.pending()
        except Exception:  # an unreadable marker must not stop the worker
            if target.name not in self._reported:
                log.exception("sync.pending_unknown", target=target.name)
            self._reported.add(target.name)
            return False
        self._reported.discard(target.name)
        return pending


def main() -> int:
    """Sync every target once; the exit status is 75 if one has to be retried."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--parent", type=int, help="exit when this process exits")
    arguments = parser.parse_args()
    if arguments.parent is not None:
        die_with(arguments.parent)
    os.nice(NICENESS)
    settings = TrainSettings()
    set_up_logging("train-sync", settings)
    results = sync(settings, lambda sentence: log.debug("sync.step", what=sentence))
    for one in results:
        if one.behind:
            log.warning("sync.behind", target=one.target, status=one.status, detail=one.detail)
        elif one.status == "done":
            log.info("sync.done", target=one.target)
    return os.EX_TEMPFAIL if any(one.behind for one in results) else 0


if __name__ == "__main__":
    sys.exit(main())
