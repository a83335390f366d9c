"""Child processes: how the worker ends them, and what their ends say."""

from __future__ import annotations

import os
import signal
import subprocess

GRACE_S = 5.0  # between SIGTERM and SIGKILL; a worker has to be gone within ten seconds


def stop_group(child: subprocess.Popen[bytes]) -> None:
    """End a process and all that it started: SIGTERM, then SIGKILL for what is left after a grace."""
    signal_group(child, signal.SIGTERM)
    exited_within(child, GRACE_S)
    signal_group(child, signal.SIGKILL)
    child.wait()


def signal_group(child: subprocess.Popen[bytes], number: signal.Signals) -> None:
    try:
        os.killpg(child.pid, number)
    except ProcessLookupError:
        return


def exited_within(child: subprocess.Popen[bytes], seconds: float) -> bool:
    try:
        child.wait(seconds)
    except subprocess.TimeoutExpired:
        return False
    return True


def describe_exit(status: int) -> str:
    """Return how a process ended, in words."""
    if status >= 0:
        return f"ended with exit status {status}"
    hint = " (out of memory?)" if status == -signal.SIGKILL else ""
    return f"was killed by {signal.Signals(-status).name}{hint}"
