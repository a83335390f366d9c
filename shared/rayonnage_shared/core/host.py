"""What this machine says about its processes and ports. Linux tells through /proc; elsewhere less is known."""

from __future__ import annotations

import contextlib
import ctypes
import errno
import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Collection, Iterator
from pathlib import Path

_PROC = Path("/proc")
_LISTENING = "0A"
_PR_SET_PDEATHSIG = 1  # linux/prctl.h
_WATCH_EVERY_S = 1.0


def pids() -> Iterator[int]:
    """Yield the ids of all processes; none where there is no /proc."""
    if _PROC.is_dir():
        yield from (int(entry.name) for entry in _PROC.iterdir() if entry.name.isdecimal())


def is_alive(pid: int) -> bool:
    """Return whether the process exists and has not ended; an unreaped one has ended."""
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    with contextlib.suppress(OSError, IndexError):
        return (_PROC / str(pid) / "stat").read_text().rpartition(")")[2].split()[0] not in {"Z", "X"}
    return True


def command_line(pid: int) -> str:
    """Return the command of a process, or an empty text where it cannot be read."""
    with contextlib.suppress(OSError):
        return (_PROC / str(pid) / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace").strip()
    return ""


def marked(variable: str, value: str) -> list[int]:
    """Return the live processes, this one aside, that were started with `variable=value` in their environment.

    Children inherit it, so a whole tree is found even after its root was killed and ids were used again.
    """
    wanted = f"{variable}={value}".encode()
    found = []
    for pid in pids():
        with contextlib.suppress(OSError):
            if wanted in (_PROC / str(pid) / "environ").read_bytes().split(b"\0"):
                found.append(pid)
    return [pid for pid in found if pid != os.getpid() and is_alive(pid)]


def end(processes: Collection[int], *, within_s: float) -> None:
    """Ask processes to end (SIGTERM), and after `within_s` make those that are left end (SIGKILL)."""
    _signal_all(processes, signal.SIGTERM)
    if not wait_until_gone(processes, within_s):
        _signal_all(processes, signal.SIGKILL)
        wait_until_gone(processes, 2.0)


def wait_until_gone(processes: Collection[int], within_s: float) -> bool:
    """Return whether all these processes have ended before the time was over."""
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
    """Return None when a process may listen there, else one clause that says why not and who holds the port."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)  # as servers do: closing connections do not count
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
    inodes = _listening_inodes(port)
    for pid in pids():
        with contextlib.suppress(OSError):
            for descriptor in (_PROC / str(pid) / "fd").iterdir():
                if str(descriptor.readlink()) in inodes:
                    return _describe(pid)
    return "a process that this user may not see (`ss -ltnp` as root names it)"


def _describe(pid: int) -> str:
    where = ""
    with contextlib.suppress(OSError):
        where = f", started in {(_PROC / str(pid) / 'cwd').readlink()}"
    command = command_line(pid) or "unknown command"
    return f"process {pid} (`{command[:160]}`{where})"


def _listening_inodes(port: int) -> set[str]:
    found = set()
    for table in ("tcp", "tcp6"):
        with contextlib.suppress(OSError):
            for line in (_PROC / "net" / table).read_text().splitlines()[1:]:
                columns = line.split()
                if columns[3] == _LISTENING and int(columns[1].rpartition(":")[2], 16) == port:
                    found.add(f"socket:[{columns[9]}]")
    return found


def die_with(parent: int) -> None:
    """Make sure that this process ends when `parent` does, be it by `kill -9`."""
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(_WATCH_EVERY_S)
        os._exit(os.EX_TEMPFAIL)

    if os.getppid() != parent:  # it died before we could ask
        os._exit(os.EX_TEMPFAIL)
    threading.Thread(target=watch, name="parent-watch", daemon=True).start()
