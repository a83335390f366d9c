"""Whether two sets of observations differ by more than chance and by enough to matter.

A column is an alarm when both hold: its distance reaches the threshold of its kind, and chance alone would give as
much, in any of the columns, once in ten thousand reports of unchanged data. A small change needs more rows to count.
"""

from __future__ import annotations

import numpy as np
import pandas as pd

from rayonnage_shared.drift.distances import (
    Distance,
    distance_of_categories,
    distance_of_embeddings,
    distance_of_numbers,
)
from rayonnage_shared.drift.observations import COLUMNS, Kind, Observations
from rayonnage_shared.drift.schemas import ColumnDrift, DriftMeasure

MIN_ROWS = 100
"""Of answers and of reference; fewer say nothing about a shop, since one person sends ten alike."""
MIN_CELLS = 30
"""In a column, on either side; for fewer the p-values are not good enough."""
FALSE_ALARMS = 1e-4
"""In so many reports of unchanged data there is one alarm."""
THRESHOLDS: dict[DriftMeasure, float] = {"ks": 0.1, "ks_fall": 0.1, "cohen_h": 0.15, "mean_shift": 0.01}
_MEASURES: dict[Kind, DriftMeasure] = {
    "number": "ks",
    "confidence": "ks_fall",  # it is higher for products that the champion has learnt from, and nothing is wrong then
    "category": "cohen_h",
}

EMBEDDING = "embedding"


def column_names() -> tuple[str, ...]:
    """Return the names of all that can be an alarm."""
    return (*COLUMNS, EMBEDDING)


def judge(reference: Observations, current: Observations) -> list[ColumnDrift]:
    """Return a verdict for each column of the tables, and for the sentence embeddings; no alarm below `MIN_ROWS`."""
    enough = enough_rows(reference, current)
    verdicts = [_judge_column(name, reference.table[name], current.table[name]) for name in COLUMNS]
    verdicts.append(_judge_embeddings(reference, current))
    return verdicts if enough else [one.model_copy(update={"drift": False}) for one in verdicts]


def enough_rows(reference: Observations, current: Observations) -> bool:
    """Return whether there can be an alarm at all."""
    return min(len(reference), len(current)) >= MIN_ROWS


def _judge_column(name: str, reference: pd.Series, current: pd.Series) -> ColumnDrift:
    before, after = reference.dropna(), current.dropna()
    measure = _MEASURES[COLUMNS[name]]
    found = None
    if min(len(before), len(after)) >= MIN_CELLS:
        if measure == "cohen_h":
            found = distance_of_categories(before.tolist(), after.tolist())
        else:
            found = distance_of_numbers(before.to_numpy(), after.to_numpy(), falls_only=measure == "ks_fall")
    return _verdict(name, measure, found, len(before), len(after))


def _judge_embeddings(reference: Observations, current: Observations) -> ColumnDrift:
    before, after = (one.embeddings[~np.isnan(one.embeddings[:, 0])] for one in (reference, current))
    found = distance_of_embeddings(before, after) if min(len(before), len(after)) >= MIN_CELLS else None
    return _verdict(EMBEDDING, "mean_shift", found, len(before), len(after))


def _verdict(name: str, measure: DriftMeasure, found: Distance | None, before: int, after: int) -> ColumnDrift:
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
