"""The champion's accuracy by feedback, and whether it is lower than expected.

An alarm needs at least 50 labelled predictions and a drop of 5 points or more, with a false-alarm rate of one report in
ten thousand. Two shares are tested: the accuracy against that on the champion's test split, which is a sample too
(Fisher's exact test), and the precision of accepted predictions against the promised one (exact binomial test).
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import NamedTuple

from rayonnage_shared.drift.schemas import Performance
from rayonnage_shared.feedback.repository import LabelledAnswer
from rayonnage_shared.ml.bundles.manifest import Manifest

MIN_LABELLED = 50
MIN_DROP = 0.05
FALSE_ALARMS = 1e-4


class Expectation(NamedTuple):
    """What a bundle's manifest promises; None for what it does not state."""

    accuracy: float | None
    rows: int | None
    promised_precision: float | None

    @classmethod
    def of(cls, manifest: Manifest) -> Expectation:
        """Return what a manifest promises."""
        rows = manifest.metrics.get("rows")
        return cls(manifest.metrics.get("accuracy"), None if rows is None else int(rows), manifest.promised_precision)


def performance_of(answers: Sequence[LabelledAnswer], expected: Expectation, since: datetime) -> Performance:
    """Compare labelled predictions with the expected accuracy and precision."""
    right = sum(one.category_id == one.truth for one in answers)
    accepted = [one.category_id == one.truth for one in answers if one.decision == "accept"]
    p_accuracy = _p_of_accuracy(right, len(answers), expected)
    p_precision = _p_of_precision(sum(accepted), len(accepted), expected.promised_precision)
    accuracy = right / len(answers) if answers else None
    precision = sum(accepted) / len(accepted) if accepted else None
    falls = []
    if _is_alarm(len(answers), accuracy, expected.accuracy, p_accuracy):
        falls.append(f"the accuracy is {accuracy:.1%}, where {expected.accuracy:.1%} was expected")
    if _is_alarm(len(accepted), precision, expected.promised_precision, p_precision):
        falls.append(
            f"the precision of accepted ones is {precision:.1%}, where {expected.promised_precision:.1%} was promised"
        )
    known = [one for one in (p_accuracy, p_precision) if one is not None]
    return Performance(
        since=since,
        labelled=len(answers),
        accuracy=accuracy,
        expected_accuracy=expected.accuracy,
        expected_rows=expected.rows,
        accepted=len(accepted),
        accepted_precision=precision,
        promised_precision=expected.promised_precision,
        p_value=min(1.0, min(known) * len(known)) if known else None,
        alarm=bool(falls),
        what=_words(len(answers), accuracy, expected.accuracy, falls),
    )


def _is_alarm(rows: int, share: float | None, expected: float | None, p_value: float | None) -> bool:
    if rows < MIN_LABELLED or share is None or expected is None or p_value is None:
        return False
    return expected - share >= MIN_DROP and 2 * p_value < FALSE_ALARMS  # two shares are tested


def _p_of_accuracy(right: int, rows: int, expected: Expectation) -> float | None:
    """Return the probability of so few right predictions if both samples have the same accuracy."""
    if not rows or expected.accuracy is None or not expected.rows:
        return None
    from scipy.stats import hypergeom

    right_before = round(expected.accuracy * expected.rows)
    # Fisher's exact test, one-sided: with fixed margins the number of right predictions is hypergeometric.
    return float(hypergeom.cdf(right, rows + expected.rows, right + right_before, rows))


def _p_of_precision(right: int, rows: int, promised: float | None) -> float | None:
    if not rows or promised is None:
        return None
    from scipy.stats import binom

    return float(binom.cdf(right, rows, promised))


def _words(rows: int, accuracy: float | None, expected: float | None, falls: Sequence[str]) -> str:
    if accuracy is None:
        return "there is no feedback on these predictions."
    if falls:
        return f"on {rows} predictions with feedback {', and '.join(falls)}."
    against = "" if expected is None else f" ({expected:.1%} expected)"
    few = f"; fewer than {MIN_LABELLED} raise no alarm" if rows < MIN_LABELLED else "; no alarm"
    return f"{accuracy:.1%} of {rows} predictions with feedback are right{against}{few}."
