"""Threads that ask the platform while a test does something to it."""

from __future__ import annotations

import threading
from abc import ABC, abstractmethod
from typing import Self


class Callers(ABC):
    """Call `ask` in `number` threads from the start of a block to its end, which sets `stopping`."""

    def __init__(self, number: int) -> None:
        self.number = number
        self.stopping = threading.Event()
        self._threads = [threading.Thread(target=self.ask, args=(each,)) for each in range(number)]

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *_error: object) -> None:
        self.stopping.set()
        for thread in self._threads:
            thread.join(60)
            assert not thread.is_alive(), "a caller hangs"

    @abstractmethod
    def ask(self, number: int) -> None:
        """Ask until `stopping` is set; `number` tells the threads apart."""
