"""Run Airflow's API server, scheduler and DAG processor in one container.

Migrates the database first. When one of these processes ends, the others are stopped and the container exits, so that
Docker restarts it; `airflow standalone` would continue without that process. Uses only the standard library.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
import urllib.request
from pathlib import Path
from types import FrameType
from typing import NoReturn

AIRFLOW = [sys.executable, "-m", "airflow"]
FIRST, OTHERS = "api-server", ("scheduler", "dag-processor")  # started first, since tasks fail without the API server
API = "http://127.0.0.1:8080/api/v2/version"
PASSWORD = Path("/run/secrets/airflow_admin_password")
PASSWORDS = Path("/tmp/airflow/passwords.json")  # noqa: S108 - as in airflow.cfg; /tmp of this container is private
STOP_S = 6  # the scheduler would wait for its tasks, which wait for trainings; they are retried after the restart


class Stop(BaseException):
    """SIGTERM was received."""


def main() -> int:
    """Run until a process ends or the container is stopped; return the exit status."""
    signal.signal(signal.SIGTERM, _stop)
    parts: dict[int, str] = {}
    try:
        write_passwords(PASSWORD.read_text(encoding="utf-8").strip())
        subprocess.run([*AIRFLOW, "db", "migrate"], check=True)
        ended: str | None = None
        _start(FIRST, parts)
        while ended is None and not _answers():
            time.sleep(0.5)
            ended = _ended(parts, os.WNOHANG)
        for name in OTHERS if ended is None else ():
            _start(name, parts)
        while ended is None:
            ended = _ended(parts, 0)
        sys.stderr.write(f"{ended}; stopping the others\n")
        return 1
    except Stop:
        return 0
    finally:
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        _end(parts)


def write_passwords(password: str) -> None:
    """Write the file from which Airflow's simple auth manager reads the password of its user `admin`."""
    PASSWORDS.parent.mkdir(parents=True, exist_ok=True)
    PASSWORDS.touch(mode=0o600)
    PASSWORDS.write_text(json.dumps({"admin": password}), encoding="utf-8")


def _stop(_signal: int, _frame: FrameType | None) -> NoReturn:
    raise Stop


def _start(name: str, parts: dict[int, str]) -> None:
    parts[os.posix_spawn(AIRFLOW[0], [*AIRFLOW, name], os.environ)] = name


def _answers() -> bool:
    try:
        with urllib.request.urlopen(API, timeout=4) as answer:
            return bool(answer.status == 200)
    except OSError:
        return False


def _ended(parts: dict[int, str], options: int) -> str | None:
    """Wait for a child; describe how it ended if it is one of the processes above.

    This is process 1, so it also reaps orphans.
    """
    pid, status = os.waitpid(-1, options)
    name = parts.pop(pid, None)
    return None if name is None else f"{name} exited with status {os.waitstatus_to_exitcode(status)}"


def _end(parts: dict[int, str]) -> None:
    deadline = time.monotonic() + STOP_S
    for pid in parts:
        os.kill(pid, signal.SIGTERM)
    left = set(parts)
    while left and time.monotonic() < deadline:
        pid, _ = os.waitpid(-1, os.WNOHANG)
        left.discard(pid)
        if pid == 0:
            time.sleep(0.05)
    for pid in left:
        os.kill(pid, signal.SIGKILL)


if __name__ == "__main__":
    sys.exit(main())
