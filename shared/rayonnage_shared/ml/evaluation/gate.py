"""The promotion gate: compare a challenger with the champion, on rows that neither was trained on."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from rayonnage_shared.ml.base.model import IntArray
from rayonnage_shared.ml.metrics.classification import class_f1, confusion_matrix, macro_f1

RESAMPLES = 1000
CONFIDENCE = 0.95  # one-sided
MIN_CLASS_ROWS = 30
MIN_ROWS = 50


@dataclass(frozen=True, slots=True)
class Verdict:
    """The gate's decision and its reason; `lower_bound` is that of the gain in macro F1."""

    promote: bool
    reason: str
    rows: int = 0
    gain: float = 0.0
    lower_bound: float = 0.0


def compare(
    truth: IntArray,
    challenger: IntArray,
    champion: IntArray,
    codes: tuple[int, ...],
    *,
    class_margin: float,
    seed: int = 0,
) -> Verdict:
    """Return whether `challenger` beats `champion`, each (n,) predicted positions, on `truth` (n,).

    Paired bootstrap on macro F1 (Efron and Tibshirani, 1993): rows are drawn with replacement, both models are scored
    on the same draw, and the gain must be above zero in 95 % of the draws. No class with 30 rows or more may lose more
    than `class_margin` of F1.
    """
    n, n_classes = len(truth), len(codes)
    if n < MIN_ROWS:
        return Verdict(False, f"only {n} rows are unseen by both models; {MIN_ROWS} are needed to compare them", n)
    ours = confusion_matrix(truth, challenger, n_classes)
    theirs = confusion_matrix(truth, champion, n_classes)
    gain = macro_f1(ours) - macro_f1(theirs)
    lower = _lower_bound(truth, challenger, champion, n_classes, seed)
    fallen = _fallen_classes(ours, theirs, codes, class_margin)
    words = f"macro F1 {macro_f1(theirs):.4f} → {macro_f1(ours):.4f} on {n} rows, gain at least {lower:+.4f} at 95 %"
    if lower <= 0:
        return Verdict(False, f"not significantly better: {words}", n, gain, lower)
    if fallen:
        return Verdict(False, f"{words}, but {'; '.join(fallen)}", n, gain, lower)
    return Verdict(True, f"better: {words}", n, gain, lower)


def _lower_bound(truth: IntArray, challenger: IntArray, champion: IntArray, n_classes: int, seed: int) -> float:
    random = np.random.default_rng(seed)
    gains = np.empty(RESAMPLES)
    for index in range(RESAMPLES):
        rows = random.integers(0, len(truth), len(truth))
        ours = confusion_matrix(truth[rows], challenger[rows], n_classes)
        theirs = confusion_matrix(truth[rows], champion[rows], n_classes)
        gains[index] = macro_f1(ours) - macro_f1(theirs)
    return float(np.quantile(gains, 1 - CONFIDENCE))


def _fallen_classes(ours: IntArray, theirs: IntArray, codes: tuple[int, ...], margin: float) -> list[str]:
    fall = class_f1(theirs) - class_f1(ours)
    large = ours.sum(axis=1) >= MIN_CLASS_ROWS
    return [
        f"F1 of {codes[i]} falls by {fall[i]:.3f} (margin {margin})" for i in np.flatnonzero(large & (fall > margin))
    ]
