"""Processes that a test starts or looks at."""

from __future__ import annotations

import contextlib
import subprocess
from collections.abc import Iterator
from typing import AnyStr

import psutil


@contextlib.contextmanager
def killed_at_end(process: subprocess.Popen[AnyStr]) -> Iterator[subprocess.Popen[AnyStr]]:
    """Kill and reap the process at the end of the block, unless it has ended by then; its pipes are closed."""
    with process:
        try:
            yield process
        finally:
            process.kill()


def children(pid: int, word: str = "") -> list[int]:
    """Return the child processes whose command contains `word`; none if the process has ended."""
    found = []
    with contextlib.suppress(psutil.NoSuchProcess):
        for child in psutil.Process(pid).children():
            with contextlib.suppress(psutil.NoSuchProcess):
                if word in " ".join(child.cmdline()):
                    found.append(child.pid)
    return found
