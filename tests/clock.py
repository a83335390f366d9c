"""A clock that stands still until a test moves it."""

from __future__ import annotations


class Clock:
    """Takes the place of the module `time` in a module under test: `monkeypatch.setattr(module, "time", Clock())`."""

    def __init__(self) -> None:
        self.now = 1_800_000_000.0

    def time(self) -> float:
        return self.now

    def monotonic(self) -> float:
        return self.now

    def perf_counter(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds
