"""Keeps MLflow, DVC and other followers up to date beside the jobs: a child process, and what tends it in the worker.

The child is `python -m rayonnage_train.sync`. It may be killed at any moment: followers do nothing twice.
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

from rayonnage_shared.core.host import die_with
from rayonnage_shared.observability.logging import set_up_logging
from rayonnage_shared.sync.base import SyncTarget
from rayonnage_shared.sync.runner import follow, followers, last_success
from rayonnage_train.children import describe_exit, exited_within, signal_group
from rayonnage_train.metrics import WorkerMetrics
from rayonnage_train.settings import TrainSettings

log = structlog.get_logger()

LOOK_EVERY_S = 2.0
FIRST_PAUSE_S, LONGEST_PAUSE_S = 1.0, 60.0
STOP_GRACE_S = 1.0
NICENESS = 15  # below jobs, which are below predictions


class FollowUps:
    """Starts the child when a follower has something pending, and ends it; every call but `stop` returns at once.

    While something stays pending, as when the other side is away, the pause between two children doubles up to a
    minute.
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
        self._followers = followers(settings) if chosen is None else chosen
        self._command = [*command, "--parent", str(os.getpid())]
        self._clock = clock
        self._child: subprocess.Popen[bytes] | None = None
        self._started_at = 0.0
        self._next_look = self._not_before = float("-inf")
        self._pause_s = FIRST_PAUSE_S
        self._puzzled: set[str] = set()

    def tick(self) -> None:
        """Look after the child: start it, bury it, or end it when it takes too long."""
        now = self._clock()
        if self._child is not None:
            self._look_after(self._child, now)
        elif now >= self._next_look:
            self._next_look = now + LOOK_EVERY_S
            if not self._look_for_work():
                self._pause_s = FIRST_PAUSE_S
            elif now >= self._not_before:
                # A group of its own, so that whatever it starts ends with it.
                self._child = subprocess.Popen(self._command, stdin=subprocess.DEVNULL, start_new_session=True)
                self._started_at = now

    def stop(self) -> None:
        """End the child, within a second."""
        if self._child is not None:
            signal_group(self._child, signal.SIGTERM)
            exited_within(self._child, STOP_GRACE_S)
            signal_group(self._child, signal.SIGKILL)
            self._child.wait()
            self._child = None

    def _look_after(self, child: subprocess.Popen[bytes], now: float) -> None:
        status = child.poll()
        if status is None:
            if now - self._started_at > self._settings.train_follow_up_limit_s:
                log.warning("follow_up.too_slow", limit_s=self._settings.train_follow_up_limit_s)
                signal_group(child, signal.SIGKILL)
            return
        if status not in (0, os.EX_TEMPFAIL):
            log.warning("follow_up.failed", how=f"its process {describe_exit(status)}")
        signal_group(child, signal.SIGKILL)  # whatever it left running
        self._child = None
        self._not_before = now + self._pause_s
        self._pause_s = min(2 * self._pause_s, LONGEST_PAUSE_S)

    def _look_for_work(self) -> bool:
        """Return whether anything is pending, and show it to Prometheus."""
        found = False
        for one in self._followers:
            pending = self._is_pending(one)
            self._metrics.synced(one.name, pending=pending, last_success=last_success(self._settings, one.name))
            found = found or pending
        return found

    def _is_pending(self, follower: SyncTarget) -> bool:
        try:
            pending = follower.pending()
        except Exception:  # a job must not suffer from a marker that cannot be read
            if follower.name not in self._puzzled:
                log.exception("follow_up.pending_unknown", follower=follower.name)
            self._puzzled.add(follower.name)
            return False
        self._puzzled.discard(follower.name)
        return pending


def main() -> int:
    """Let every follower catch up once; the exit status is 75 when one of them has to be tried again."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--parent", type=int, help="process that this one must not outlive")
    arguments = parser.parse_args()
    if arguments.parent is not None:
        die_with(arguments.parent)
    os.nice(NICENESS)
    settings = TrainSettings()
    set_up_logging("train-follow-up", settings)
    results = follow(settings, lambda sentence: log.debug("follow_up.step", what=sentence))
    for one in results:
        if one.behind:
            log.warning("follow_up.behind", follower=one.follower, status=one.status, detail=one.detail)
        elif one.status == "done":
            log.info("follow_up.done", follower=one.follower)
    return os.EX_TEMPFAIL if any(one.behind for one in results) else 0


if __name__ == "__main__":
    sys.exit(main())
