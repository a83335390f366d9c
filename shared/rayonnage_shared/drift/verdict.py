"""Decide whether two sets of observations differ significantly, and by enough to matter.

A column raises an alarm if its distance reaches the threshold of its measure, and a distance as large occurs by chance,
in any column, in fewer than one of ten thousand reports on unchanged data. A small change needs more rows to count.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from rayonnage_shared.drift.distances import (
    Distance,
    distance_of_categories,
    distance_of_embeddings,
    distance_of_numbers,
)
from rayonnage_shared.drift.observations import COLUMNS, ColumnType, Observations
from rayonnage_shared.drift.schemas import ColumnDrift, DriftMeasure

MIN_ROWS = 100
"""Of predictions and of the reference; fewer are not representative, since one user sends ten similar products."""
MIN_CELLS = 30
"""In a column, on either side; for fewer the p-values are not accurate enough."""
FALSE_ALARMS = 1e-4
"""False-alarm rate per report."""
THRESHOLDS: dict[DriftMeasure, float] = {"ks": 0.1, "ks_fall": 0.1, "cohen_h": 0.15, "mean_shift": 0.01}
_MEASURES: dict[ColumnType, DriftMeasure] = {
    "number": "ks",
    "confidence": "ks_fall",  # a rise is no problem: confidence is higher for products that the champion has seen
    "category": "cohen_h",
}

EMBEDDING = "embedding"


def column_names() -> tuple[str, ...]:
    """Return the names of all columns that can raise an alarm."""
    return (*COLUMNS, EMBEDDING)


def compare_columns(reference: Observations, current: Observations) -> list[ColumnDrift]:
    """Return the drift of each column and of the sentence embeddings; no alarm below `MIN_ROWS`."""
    enough = enough_rows(reference, current)
    columns = [_compare_column(name, reference.columns[name], current.columns[name]) for name in COLUMNS]
    columns.append(_compare_embeddings(reference, current))
    return columns if enough else [one.model_copy(update={"drift": False}) for one in columns]


def enough_rows(reference: Observations, current: Observations) -> bool:
    """Return whether there are enough rows for an alarm."""
    return min(len(reference), len(current)) >= MIN_ROWS


def _compare_column(name: str, reference: NDArray[Any], current: NDArray[Any]) -> ColumnDrift:
    before, after = _known(reference), _known(current)
    measure = _MEASURES[COLUMNS[name]]
    found = None
    if min(len(before), len(after)) >= MIN_CELLS:
        if measure == "cohen_h":
            found = distance_of_categories(before.tolist(), after.tolist())
        else:
            found = distance_of_numbers(before, after, falls_only=measure == "ks_fall")
    return _column_drift(name, measure, found, len(before), len(after))


def _known(cells: NDArray[Any]) -> NDArray[Any]:
    """Return the cells that are not empty."""
    empty = np.array([cell is None for cell in cells], dtype=bool) if cells.dtype == object else np.isnan(cells)
    known: NDArray[Any] = cells[~empty]
    return known


def _compare_embeddings(reference: Observations, current: Observations) -> ColumnDrift:
    before, after = (one.embeddings[~np.isnan(one.embeddings[:, 0])] for one in (reference, current))
    found = distance_of_embeddings(before, after) if min(len(before), len(after)) >= MIN_CELLS else None
    return _column_drift(EMBEDDING, "mean_shift", found, len(before), len(after))


def _column_drift(name: str, measure: DriftMeasure, found: Distance | None, before: int, after: int) -> ColumnDrift:
    threshold = THRESHOLDS[measure]
    p_value = None if found is None else min(1.0, found.p_value * (len(COLUMNS) + 1))
    unlikely = p_value is not None and p_value < FALSE_ALARMS
    return ColumnDrift(
        name=name,
        measure=measure,
        distance=None if found is None else found.size,
        threshold=threshold,
        p_value=p_value,
        drift=found is not None and unlikely and found.size >= threshold,
        what="" if found is None else found.where,
        reference_rows=before,
        current_rows=after,
    )
