"""Child processes: stop them, and describe how they ended."""

from __future__ import annotations

import os
import signal
import subprocess

GRACE_S = 5.0  # between SIGTERM and SIGKILL; a worker must stop within ten seconds


def stop_group(child: subprocess.Popen[bytes]) -> None:
    """Stop a process and its children: SIGTERM, then SIGKILL for those that are left after a grace period."""
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
    """Return a phrase for an exit status."""
    if status >= 0:
        return f"ended with exit status {status}"
    hint = " (out of memory?)" if status == -signal.SIGKILL else ""
    return f"was killed by {signal.Signals(-status).name}{hint}"
