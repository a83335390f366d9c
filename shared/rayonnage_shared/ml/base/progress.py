"""Progress callbacks, which can also stop the work."""

from __future__ import annotations

from typing import Protocol


class Progress(Protocol):
    """A progress callback of long work: the job worker writes it to the job, the command line draws a bar.

    It may raise to stop the work.
    """

    def __call__(self, fraction: float, message: str) -> None:
        """Report that `fraction` (0 to 1) of the current stage is done."""
        ...


def silent(fraction: float, message: str) -> None:
    """Ignore progress."""


def part(progress: Progress, start: float, end: float) -> Progress:
    """Return a callback that maps 0 to 1 to the range `start` to `end` of `progress`."""

    def report(fraction: float, message: str) -> None:
        progress(start + (end - start) * fraction, message)

    return report
