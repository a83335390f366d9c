"""Processes and ports of this machine. Of another user's processes less is known."""

from __future__ import annotations

import contextlib
import errno
import os
import signal
import socket
import time
from collections.abc import Collection

import psutil


def is_alive(pid: int) -> bool:
    """Return whether the process exists and has not ended; an unreaped one has ended."""
    try:
        return psutil.Process(pid).status() not in {psutil.STATUS_ZOMBIE, psutil.STATUS_DEAD}
    except psutil.NoSuchProcess:
        return False
    except psutil.AccessDenied:
        return True


def command_line(pid: int) -> str:
    """Return the command of a process, or an empty text if it cannot be read."""
    with contextlib.suppress(psutil.Error):
        return " ".join(psutil.Process(pid).cmdline())
    return ""


def marked(variable: str, value: str) -> list[int]:
    """Return the live processes, this one aside, that were started with `variable=value` in their environment.

    Children inherit it, so a whole tree is found even after its root was killed and ids were used again.
    """
    found = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            if process.environ().get(variable) == value:
                found.append(process.pid)
    return [pid for pid in found if pid != os.getpid() and is_alive(pid)]


def end(processes: Collection[int], *, within_s: float) -> None:
    """Ask processes to end (SIGTERM), and after `within_s` kill those that remain (SIGKILL)."""
    _signal_all(processes, signal.SIGTERM)
    if not wait_until_gone(processes, within_s):
        _signal_all(processes, signal.SIGKILL)
        wait_until_gone(processes, 2.0)


def wait_until_gone(processes: Collection[int], within_s: float) -> bool:
    """Return whether all these processes have ended within the time."""
    deadline = time.monotonic() + within_s
    while any(is_alive(pid) for pid in processes):
        if time.monotonic() > deadline:
            return False
        time.sleep(0.05)
    return True


def _signal_all(processes: Collection[int], which: signal.Signals) -> None:
    for pid in processes:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.kill(pid, which)


def why_not_free(host: str, port: int) -> str | None:
    """Return None if a process may listen there, else one clause that says why not and who holds the port."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.setsockopt(
            socket.SOL_SOCKET, socket.SO_REUSEADDR, 1
        )  # as servers do: connections in TIME_WAIT do not count
        try:
            probe.bind((host, port))
            probe.listen(1)
        except OSError as err:
            if err.errno == errno.EADDRINUSE:
                return f"is in use by {holder_of(port)}"
            return f"cannot be opened on {host} ({err.strerror or err})"
    return None


def holder_of(port: int) -> str:
    """Return who listens on `port`, in words: process id, command and folder as far as this user may know them."""
    with contextlib.suppress(psutil.Error):
        for one in psutil.net_connections("tcp"):
            if one.status == psutil.CONN_LISTEN and one.laddr and one.laddr.port == port and one.pid is not None:
                return _describe(one.pid)
    return "a process that this user may not see (`ss -ltnp` as root names it)"


def _describe(pid: int) -> str:
    where = ""
    with contextlib.suppress(psutil.Error):
        where = f", started in {psutil.Process(pid).cwd()}"
    command = command_line(pid) or "unknown command"
    return f"process {pid} (`{command[:160]}`{where})"
