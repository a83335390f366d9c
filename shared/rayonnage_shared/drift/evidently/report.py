"""Evidently's report on two sets of observations, without the columns that Evidently cannot compare."""

from __future__ import annotations

import importlib.util
import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from rayonnage_shared.core.errors import RayonnageError
from rayonnage_shared.drift.observations import COLUMNS, Observations
from rayonnage_shared.drift.verdict import MIN_CELLS

if TYPE_CHECKING:
    import pandas as pd

LIMIT_S = 180
"""Importing it takes 10 to 25 s, the work 2 s."""
TEXT_DISTANCE = "text_distance"
MAX_VALUES = 40
"""Of a category column; rarer values are merged into one."""
_KEPT_VARIABLES = ("PATH", "HOME", "TMPDIR", "LANG", "LC_ALL", "OPENBLAS_NUM_THREADS")


class EvidentlyMissing(RayonnageError):
    code, title = "evidently_missing", "Evidently is not installed"


class EvidentlyFailed(RayonnageError):
    code, title = "evidently_failed", "Evidently's report could not be created"


@dataclass(frozen=True, slots=True)
class EvidentlyReport:
    """A self-contained HTML page, and the metrics that it shows."""

    html: str
    metrics: dict[str, Any]


def evidently_report(
    reference: Observations, current: Observations, work: Path, limit_s: float = LIMIT_S
) -> EvidentlyReport | None:
    """Return Evidently's report, made by a process in the folder `work`; None where no column can be compared.

    Raises EvidentlyMissing, or EvidentlyFailed when that process fails or takes more than `limit_s` seconds.
    """
    if min(len(reference), len(current)) < MIN_CELLS:
        return None
    if importlib.util.find_spec("evidently") is None:
        raise EvidentlyMissing("`make monitor` installs it for this and later reports; the train image has it.")
    before, after = comparable(reference, current)
    if not len(before.columns):
        return None
    before.to_parquet(work / "reference.parquet")
    after.to_parquet(work / "current.parquet")
    _run(work, limit_s)
    html = (work / "evidently.html").read_text(encoding="utf-8")
    return EvidentlyReport(html, json.loads((work / "evidently.json").read_bytes()))


def comparable(reference: Observations, current: Observations) -> tuple[pd.DataFrame, pd.DataFrame]:
    """Return the tables with the columns that Evidently can compare.

    It fails on columns that are empty or constant, and draws nothing of use from a few cells. Embeddings become the
    distance of each text from the middle of the reference: as raw texts Evidently fails on a small vocabulary.
    """
    import pandas as pd

    middle = _middle(reference)
    before, after = (
        pd.DataFrame(one.columns).assign(**{TEXT_DISTANCE: _cosine_distance(one, middle)})
        for one in (reference, current)
    )
    usable = [name for name in before.columns if _usable(before[name], after[name])]
    before, after = before[usable].copy(), after[usable].copy()
    for name in usable:
        if COLUMNS.get(name) == "category":
            frequent = pd.concat([before[name], after[name]]).value_counts().index[:MAX_VALUES]
            for table in (before, after):
                table[name] = table[name].where(table[name].isna() | table[name].isin(frequent), "other")
    return before, after


def _usable(before: pd.Series, after: pd.Series) -> bool:
    enough = min(before.count(), after.count()) >= MIN_CELLS
    return bool(enough and before.nunique() > 1 and after.nunique() > 1)


def _middle(reference: Observations) -> np.ndarray:
    known = reference.embeddings[~np.isnan(reference.embeddings[:, 0])]
    return known.mean(axis=0) if len(known) else np.zeros(reference.embeddings.shape[1], dtype=np.float32)


def _cosine_distance(observations: Observations, middle: np.ndarray) -> np.ndarray:
    length = float(np.linalg.norm(middle)) or 1.0  # embeddings have length 1 themselves
    distances: np.ndarray = (1 - observations.embeddings @ middle / length).astype(np.float64)
    return distances


def _run(work: Path, limit_s: float) -> None:
    # The platform's passwords stay here: Evidently needs none, and it can send data to other hosts.
    kept = {name: os.environ[name] for name in _KEPT_VARIABLES if name in os.environ}
    environment = {**kept, "DO_NOT_TRACK": "1"}
    command = [sys.executable, "-P", "-m", "rayonnage_shared.drift.evidently.process", str(work.resolve())]
    try:
        done = subprocess.run(
            command, env=environment, capture_output=True, text=True, timeout=limit_s, check=False, cwd=work
        )
    except subprocess.TimeoutExpired as error:
        raise EvidentlyFailed(f"It took more than {limit_s:g} s; try again when the machine is less busy.") from error
    if done.returncode != 0:
        last = done.stderr.strip().splitlines()[-1:] or [f"status {done.returncode}"]
        raise EvidentlyFailed(f"Its process ended with: {last[0][:500]}")
