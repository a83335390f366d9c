"""Out-of-fold metrics of selective prediction: coverage and precision of thresholds for a promised precision."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from rayonnage_shared.ml.base.model import FloatArray, IntArray, known_rows
from rayonnage_shared.ml.calibration.thresholds import Decisions, Mode, rows_by_mode

PROMISES = (0.90, 0.95, 0.99)


@dataclass(frozen=True, slots=True)
class SelectiveMetrics:
    """Metrics of thresholds for a `promised` precision, on rows that they were not fitted on.

    `coverage` is the share of the mode's `rows` that were accepted, `precision` the share of the accepted that were
    right; None where nothing was accepted.
    """

    mode: Mode
    promised: float
    coverage: float
    precision: float | None
    rows: int


def selective_metrics(
    tables: dict[Mode, FloatArray], classes: IntArray, folds: IntArray, promises: Sequence[float] = PROMISES
) -> list[SelectiveMetrics]:
    """Return metrics for each mode that has rows and each promised precision, with thresholds from the other folds.

    `tables` are held-out probabilities (n, n_classes), NaN where a product lacks a modality; `classes` and `folds` are
    (n,). Each mode is evaluated on `rows_by_mode`. Where these are all of one fold, thresholds for each half of it
    (every other row) come from the other.
    """
    metrics = []
    for mode, table in rows_by_mode(tables).items():
        known = known_rows(table)
        if not known.any():
            continue
        metrics += [_metrics(mode, promised, table[known], classes[known], folds[known]) for promised in promises]
    return metrics


def accepted_out_of_fold(
    mode: Mode, table: FloatArray, classes: IntArray, folds: IntArray, promised: float
) -> NDArray[np.bool_]:
    """Return which rows (n,) of a table without NaN are accepted by thresholds that the other folds gave."""
    if len(np.unique(folds)) == 1:
        folds = np.arange(len(folds)) % 2
    accepted = np.zeros(len(classes), dtype=np.bool_)
    for fold in np.unique(folds):
        test = folds == fold
        decisions = Decisions.fit({mode: table[~test]}, classes[~test], promised, folds[~test])
        accepted[test] = decisions.accepted(mode, table[test])
    return accepted


def _metrics(mode: Mode, promised: float, table: FloatArray, classes: IntArray, folds: IntArray) -> SelectiveMetrics:
    accepted = accepted_out_of_fold(mode, table, classes, folds, promised)
    correct = table.argmax(axis=1) == classes
    return SelectiveMetrics(
        mode=mode,
        promised=promised,
        coverage=float(accepted.mean()),
        precision=float(correct[accepted].mean()) if accepted.any() else None,
        rows=len(classes),
    )
