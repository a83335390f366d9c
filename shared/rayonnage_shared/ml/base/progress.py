"""How long work says where it is, and is asked to stop."""

from __future__ import annotations

from typing import Protocol


class Progress(Protocol):
    """Called by long work; the job worker writes it to the job, the CLI draws a bar.

    A caller that wants the work to stop raises from here.
    """

    def __call__(self, fraction: float, message: str) -> None:
        """Say that `fraction` (0 to 1) of the present stage is done."""
        ...


def silent(fraction: float, message: str) -> None:
    """Ignore progress."""


def part(progress: Progress, start: float, end: float) -> Progress:
    """Return a progress that maps its own 0 to 1 onto `start` to `end` of `progress`."""

    def report(fraction: float, message: str) -> None:
        progress(start + (end - start) * fraction, message)

    return report
