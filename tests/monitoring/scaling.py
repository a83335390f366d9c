"""Rules and routes in which an hour is a minute, so that a test can wait for what takes hours."""

from __future__ import annotations

import re

FACTOR = 60
MIN_WINDOW_MS = 5000  # of a range: at one scrape a second, what `rate` needs and a hiccup more

_UNIT_MS = {"s": 1000, "m": 60_000, "h": 3_600_000, "d": 86_400_000}
_RANGE = re.compile(r"\[(\d+)([smhd])\]")
_WAIT = re.compile(r"\b(for|interval|group_wait|group_interval|repeat_interval): (\d+)([smhd])\b")


def scaled(text: str) -> str:
    """Return rules of Prometheus, or routes of Alertmanager, with every time divided by FACTOR.

    Those are: ranges (`[6h]`, which stay above MIN_WINDOW_MS), waits (`for: 5m`, `group_wait: 30s`), and times in
    expressions, which the rules write as multiples of an hour (`48 * 3600`). Numbers, shares and speeds stay.
    """
    text = _RANGE.sub(lambda found: f"[{max(_ms(found[1], found[2]), MIN_WINDOW_MS)}ms]", text)
    text = _WAIT.sub(lambda found: f"{found[1]}: {_ms(found[2], found[3])}ms", text)
    return re.sub(r"\b3600\b", str(3600 // FACTOR), text)


def _ms(number: str, unit: str) -> int:
    return int(number) * _UNIT_MS[unit] // FACTOR
