"""Learning curves: the same model fitted on fewer rows, evaluated on the same held-out rows.

Their cost is bounded to a small part of any training: 8 % of a text model's on 3,756 rows.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from rayonnage_shared.ml.base.model import Curve, FloatArray, IntArray, Labels
from rayonnage_shared.ml.metrics.classification import confusion_matrix, weighted_f1

_SHARES = (0.25, 0.5)
_MIN_ROWS = 20
_MAX_ROWS = 4_000
"""The largest refit, and the most evaluation rows."""


class Point(NamedTuple):
    """A model fitted on `rows` rows, with scores (n, n_classes) of the rows in `learned` and of held-out rows."""

    rows: int
    learned: IntArray
    learned_scores: FloatArray
    held_out_scores: FloatArray


def row_subsets(rows: IntArray) -> list[IntArray]:
    """Return a quarter and a half of `rows` (n,), or a quarter and a half of 8,000 of them, evenly spread.

    Empty if that would be too few. A part may lack small classes, as any smaller dataset would.
    """
    sizes = [int(share * min(len(rows), 2 * _MAX_ROWS)) for share in _SHARES]
    return [_spread(rows, size) for size in sizes if size >= _MIN_ROWS]


def some_rows(rows: IntArray) -> IntArray:
    """Return an evenly spread sample of `rows` that gives F1 within one point."""
    return _spread(rows, min(len(rows), _MAX_ROWS))


def curve_of_rows(points: Sequence[Point], held_out: IntArray, labels: Labels) -> Curve:
    """Return weighted F1 by number of training rows, evaluated on the rows `held_out`."""

    def metric(scores: FloatArray, rows: IntArray) -> float:
        return weighted_f1(confusion_matrix(labels.classes[rows], scores.argmax(axis=1), labels.n_classes))

    return Curve(
        "f1_weighted",
        "rows",
        tuple(float(one.rows) for one in points),
        tuple(metric(one.learned_scores, one.learned) for one in points),
        tuple(metric(one.held_out_scores, held_out) for one in points),
    )


def _spread(rows: IntArray, size: int) -> IntArray:
    return rows[np.linspace(0, len(rows) - 1, size).astype(np.int64)]
