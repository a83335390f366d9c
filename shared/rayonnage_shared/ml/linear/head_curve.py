"""The learning curve of a linear head on a frozen network's features."""

from __future__ import annotations

import numpy as np
from threadpoolctl import threadpool_limits

from rayonnage_shared.ml.base.model import Curve, FloatArray, IntArray, Labels
from rayonnage_shared.ml.linear.discriminant import fit_discriminant
from rayonnage_shared.ml.metrics.learning_curves import Point, curve_of_rows, row_subsets, some_rows


def head_learning_curve(inputs: FloatArray, labels: Labels, *, penalty: float) -> tuple[Curve, ...]:
    """Return weighted F1 by number of photos, features being `inputs` (n, width); nothing if there is a single fold.

    The first fold is held out. Costs less than fitting two of the folds' heads.
    """
    folds = np.unique(labels.folds)
    if len(folds) < 2:
        return ()
    rows = np.flatnonzero(labels.folds != folds[0])
    held_out = some_rows(np.flatnonzero(labels.folds == folds[0]))
    # Two BLAS threads save little, and wait for each other on busy cores: 1.3 s against 10 s.
    with threadpool_limits(1, user_api="blas"):
        points = [_point(inputs, labels, subset, held_out, penalty) for subset in (*row_subsets(rows), rows)]
    return (curve_of_rows(points, held_out, labels),)


def _point(inputs: FloatArray, labels: Labels, rows: IntArray, held_out: IntArray, penalty: float) -> Point:
    classes, learned = labels.classes[rows], some_rows(rows)
    head = fit_discriminant(inputs[rows], classes, labels.n_classes, penalty=penalty)
    known = np.isin(np.arange(labels.n_classes), classes)  # scores of other classes are meaningless

    def scores(chosen: IntArray) -> FloatArray:
        return np.where(known, inputs[chosen] @ head.weights + head.intercept, np.float32(-np.inf))

    return Point(len(rows), learned, scores(learned), scores(held_out))
