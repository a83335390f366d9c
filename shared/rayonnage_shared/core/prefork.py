"""Several processes of one service behind one port: the parent starts, replaces and stops them, and serves nothing.

    workers.run("rayonnage_predict", host=…, port=…, count=2)     in the parent
    workers.join()                                                first thing in every process of the service

The parent binds the port and hands the socket down, so that a worker that is killed takes none of the connections with
it which nobody had accepted yet. A worker is `python -m` like the service itself, not a fork: it has no threads or
sessions of ONNX Runtime from another process, and metrics find their folder before they are made.

In the folder, which is emptied at each start, stand the workers' metrics (files of prometheus_client), their process
ids and what each says of its readiness.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path
from types import FrameType

import structlog

from rayonnage_shared.core.host import die_with

log = structlog.get_logger()

EXIT_NOT_STARTED = 3  # as `uvicorn.run` has it
_WORKER = "RAYONNAGE_WORKER"
_METRICS_FOLDER = "PROMETHEUS_MULTIPROC_DIR"  # prometheus_client reads it when the first metric is made
_TELL_EVERY_S = 0.5
_SILENT_AFTER_S = 5.0  # two busy cores have kept an event loop waiting for one
_POLL_S = 0.1
_GIVE_UP_AFTER_S = 9.5  # of a stop; workers are gone after nine, and whoever stops the parent kills after ten
_FIRST_WAIT_S = 1.0  # before a worker that ended early is started again; then twice as long, and so on
_LONGEST_WAIT_S = 10.0
_LIVED_WELL_S = 10.0


@dataclass(frozen=True)
class Worker:
    """This process as one of several: its number from 1, and what it shares with the others."""

    number: int
    count: int
    parent: int
    descriptor: int
    folder: Path

    def listening_socket(self) -> socket.socket:
        """Return the socket that all workers accept from."""
        return socket.socket(fileno=self.descriptor)

    def pids(self) -> list[int]:
        """Return the process ids of all workers that run."""
        return [pid for number in self._numbers() if (pid := _read_pid(self.folder, number)) is not None]

    async def why_others_are_not_ready(self) -> str | None:
        """Return None when all other workers are ready, else what keeps the first of them."""
        for number in self._numbers():
            if number != self.number and (trouble := _state(self.folder, number)) is not None:
                return f"worker {number} {trouble}"
        return None

    async def tell(self, why_not_ready: Callable[[], Awaitable[str | None]]) -> None:
        """Write down twice a second whether this worker is ready, for the others to read."""
        path = _state_path(self.folder, self.number)
        told = None
        while True:
            trouble = await why_not_ready() or ""
            if trouble == told and path.exists():
                os.utime(path)
            else:
                fresh = path.with_suffix(".new")
                fresh.write_text(trouble, encoding="utf-8")
                fresh.replace(path)
                told = trouble
            await asyncio.sleep(_TELL_EVERY_S)

    def _numbers(self) -> range:
        return range(1, self.count + 1)


def this_worker() -> Worker | None:
    """Return what this process is among several, or None where it is the only one."""
    return _joined


_joined: Worker | None = None


def join() -> Worker | None:
    """Return which worker this process was started as, or None; call it before any metric is made.

    From here on the process ends with its parent, and its metrics go into the shared folder under its number, where
    the worker that replaces it goes on counting.
    """
    global _joined  # noqa: PLW0603 - what a process is, it is for good
    told = os.environ.pop(_WORKER, None)  # not for processes that this one may start
    if told is None:
        return None
    number, count, parent, descriptor = map(int, told.split(","))
    die_with(parent)
    from prometheus_client import values

    values.ValueClass = values.MultiProcessValue(lambda: number)  # type: ignore[no-untyped-call]
    _joined = Worker(number, count, parent, descriptor, Path(os.environ[_METRICS_FOLDER]))
    return _joined


def run(module: str, *, host: str, port: int, count: int) -> None:
    """Run `count` processes of `python -m module` behind one port until SIGTERM or SIGINT, then end by that signal.

    Exits with a worker's status when none of the first ones comes to serve.
    """
    listening = _bound_socket(host, port)
    folder = workers_folder(module, port)
    _make_empty(folder)
    parent = _Parent(module, listening, folder, count)
    try:
        received = parent.run()
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    if isinstance(received, signal.Signals):
        signal.signal(received, signal.SIG_DFL)
        signal.raise_signal(received)
        sys.exit(0)  # reached by a container's process 1 alone
    sys.exit(received)


class _Parent:
    def __init__(self, module: str, listening: socket.socket, folder: Path, count: int) -> None:
        self._module = module
        self._listening = listening
        self._folder = folder
        self._slots = [_Slot(number) for number in range(1, count + 1)]
        self._stop = threading.Event()
        self._received: signal.Signals | None = None
        self._served = False

    def run(self) -> signal.Signals | int:
        """Return the signal that ended it, or the exit status of workers that never came to serve."""
        for one in (signal.SIGTERM, signal.SIGINT):
            signal.signal(one, self._note_signal)
        try:
            while not self._stop.wait(_POLL_S):
                for slot in self._slots:
                    if (status := self._look_after(slot)) is not None:
                        return status
        finally:
            self._listening.close()  # whoever comes now is refused instead of kept waiting
            self._end_all()
        assert self._received is not None
        return self._received

    def _note_signal(self, number: int, _frame: FrameType | None) -> None:
        self._received = signal.Signals(number)
        self._stop.set()

    def _look_after(self, slot: _Slot) -> int | None:
        """Start or replace a worker if need be; return the status to end with when nothing can come of it."""
        now = time.monotonic()
        self._served = self._served or _state_path(self._folder, slot.number).exists()
        if slot.process is None:
            if now >= slot.start_at:
                self._start(slot, now)
            return None
        status = slot.process.poll()
        if status is None:
            return None
        slot.process = None
        for path in (_state_path(self._folder, slot.number), _pid_path(self._folder, slot.number)):
            path.unlink(missing_ok=True)
        for path in self._folder.glob(f"gauge_live*_{slot.number}.db"):
            path.unlink()
        log.error("worker.ended", worker=slot.number, status=status, seconds=round(now - slot.started, 1))
        if not self._served:
            return status if status > 0 else 1
        lived_well = now - slot.started > _LIVED_WELL_S
        slot.wait_s = 0.0 if lived_well else min(_LONGEST_WAIT_S, max(_FIRST_WAIT_S, 2 * slot.wait_s))
        slot.start_at = now + slot.wait_s
        return None

    def _start(self, slot: _Slot, now: float) -> None:
        descriptor = self._listening.fileno()
        told = f"{slot.number},{len(self._slots)},{os.getpid()},{descriptor}"
        slot.process = subprocess.Popen(
            [sys.executable, "-m", self._module],
            env={**os.environ, _WORKER: told, _METRICS_FOLDER: str(self._folder)},
            pass_fds=[descriptor],
        )
        slot.started = now
        _pid_path(self._folder, slot.number).write_text(str(slot.process.pid), encoding="ascii")
        log.info("worker.started", worker=slot.number, pid=slot.process.pid)

    def _end_all(self) -> None:
        processes = [slot.process for slot in self._slots if slot.process is not None]
        deadline = time.monotonic() + _GIVE_UP_AFTER_S
        for process in processes:
            process.terminate()
        for process in processes:
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(max(0.0, deadline - time.monotonic()))
        for process in processes:
            process.kill()
            process.wait()


@dataclass
class _Slot:
    number: int
    process: subprocess.Popen[bytes] | None = None
    started: float = 0.0
    start_at: float = 0.0
    wait_s: float = 0.0


def workers_folder(module: str, port: int) -> Path:
    """Return the folder that the workers behind a port share."""
    return Path(tempfile.gettempdir()) / f"rayonnage-{os.getuid()}-{module}-{port}"


def _make_empty(folder: Path) -> None:
    """Make a folder that only this user may use, without what a killed parent has left; the port is ours by now."""
    if folder.exists() and folder.lstat().st_uid != os.getuid():
        raise PermissionError(f"{folder} belongs to another user")
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(mode=0o700)


def _bound_socket(host: str, port: int) -> socket.socket:
    """Return a socket that does not listen yet: the first worker that is up begins to."""
    bound = socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET)
    bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        bound.bind((host, port))
    except OSError as error:
        bound.close()
        log.error("workers.port_taken", host=host, port=port, error=str(error))
        sys.exit(EXIT_NOT_STARTED)
    return bound


def _state_path(folder: Path, number: int) -> Path:
    return folder / f"worker-{number}.state"


def _pid_path(folder: Path, number: int) -> Path:
    return folder / f"worker-{number}.pid"


def _read_pid(folder: Path, number: int) -> int | None:
    with contextlib.suppress(OSError, ValueError):
        return int(_pid_path(folder, number).read_text(encoding="ascii"))
    return None


def _state(folder: Path, number: int) -> str | None:
    """Return None when the worker has lately said that it is ready, else what it says."""
    path = _state_path(folder, number)
    try:
        trouble, silent_s = path.read_text(encoding="utf-8"), time.time() - path.stat().st_mtime
    except FileNotFoundError:
        return "is not up yet"
    if silent_s > _SILENT_AFTER_S:
        return f"has not been heard of for {silent_s:.0f} s"
    return f"is not ready: {trouble}" if trouble else None
