"""Into which parts rows fall when a model must say something of each row that it was not fitted on."""

from __future__ import annotations

import numpy as np

from rayonnage_shared.ml.base.model import IntArray, Labels

MAX_PARTS = 5


def parts_of(labels: Labels) -> IntArray:
    """Return part numbers (n,): twins share a part, so that what is fitted on all other parts saw no twin of a row.

    Parts are the folds where at least two of them have rows. Where one fold has them all (a family that takes long to
    fit is held out from one alone) its groups of twins are dealt out to five parts.
    """
    if len(np.unique(labels.folds)) > 1:
        return labels.folds
    groups = np.arange(len(labels.classes)) if labels.groups is None else labels.groups
    _, number = np.unique(groups, return_inverse=True)
    return np.asarray(number % MAX_PARTS, dtype=np.int64)
