"""Makes trouble for a platform, for as long as a block lasts."""

from __future__ import annotations

import contextlib
import itertools
import os
import signal
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from typing import Any

import httpx2

from tests.e2e.platform import Platform
from tests.processes import killed_at_end

PRODUCT = {"designation": "Piscine hors sol ronde avec pompe", "description": "Diamètre 3 m, filtre à sable"}


@contextlib.contextmanager
def again_and_again(act: Callable[[], Any], *, threads: int = 1, every_s: float = 0.0) -> Iterator[None]:
    """Call `act` in threads until the block ends. A connection that breaks is part of the trouble."""
    over = threading.Event()

    def run() -> None:
        while not over.is_set():
            with contextlib.suppress(httpx2.TransportError):
                act()
            over.wait(every_s)

    started = [threading.Thread(target=run) for _ in range(threads)]
    for thread in started:
        thread.start()
    try:
        yield
    finally:
        over.set()
        for thread in started:
            thread.join(90)


@contextlib.contextmanager
def restarted_with(platform: Platform, process: str, **settings: str) -> Iterator[None]:
    """Restart a process with other settings, and at the end with the former ones."""
    path = platform.home / ".env"
    before = path.read_text(encoding="utf-8")
    changed = before + "".join(f"{name}={value}\n" for name, value in settings.items())
    try:
        _restart(platform, process, changed)
        yield
    finally:
        _restart(platform, process, before)


def _restart(platform: Platform, process: str, settings: str) -> None:
    platform.stop(process)
    (platform.home / ".env").write_text(settings, encoding="utf-8")
    platform.start(process)
    platform.wait_until_ready()


@contextlib.contextmanager
def busy_processors() -> Iterator[None]:
    """Keep every processor busy with work that gives way to any other."""
    command = [sys.executable, "-c", "import os\nos.nice(19)\nwhile True: pass"]
    with contextlib.ExitStack() as stack:
        for _ in range(os.cpu_count() or 1):
            stack.enter_context(killed_at_end(subprocess.Popen(command)))
        yield


@contextlib.contextmanager
def locked_database(platform: Platform) -> Iterator[None]:
    """Hold the lock that every writer needs: the database is there, but takes nothing."""
    with contextlib.closing(sqlite3.connect(platform.home / "data" / "rayonnage.db", timeout=30)) as database:
        database.isolation_level = None
        database.execute("BEGIN IMMEDIATE")
        try:
            yield
        finally:
            database.execute("ROLLBACK")


@contextlib.contextmanager
def paused(pid: int) -> Iterator[None]:
    """Stop a process as a machine without a free processor would."""
    os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        os.kill(pid, signal.SIGCONT)


def user_names() -> Iterator[str]:
    """Yield names that nobody has, so that no lock on one user keeps the others out."""
    return (f"nobody-{number}" for number in itertools.count())
