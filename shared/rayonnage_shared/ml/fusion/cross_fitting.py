"""Split rows into parts for cross-fitting."""

from __future__ import annotations

import numpy as np

from rayonnage_shared.ml.base.model import IntArray, Labels

MAX_PARTS = 5


def parts_of(labels: Labels) -> IntArray:
    """Return part numbers (n,), in which near-duplicates share a part.

    Parts are the folds if at least two have rows. If one fold has all rows (slow families hold out a single fold),
    its groups of near-duplicates are distributed over five parts.
    """
    if len(np.unique(labels.folds)) > 1:
        return labels.folds
    groups = np.arange(len(labels.classes)) if labels.groups is None else labels.groups
    _, number = np.unique(groups, return_inverse=True)
    return np.asarray(number % MAX_PARTS, dtype=np.int64)
