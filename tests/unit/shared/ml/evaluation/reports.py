"""Made-up scores and the report that comes of them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from rayonnage_shared.ml.base.model import FloatArray, IntArray
from rayonnage_shared.ml.evaluation.report import evaluation_report
from rayonnage_shared.ml.evaluation.schemas import EvaluationReport
from rayonnage_shared.ml.evaluation.scoring import Scores

CODES = (10, 40, 2583)
LABELS = {10: "Livres > Livres d'occasion", 40: "Jeux vidéo > Jeux pour consoles", 2583: "Piscine > Entretien"}


def sure_of(positions: Sequence[int | None], confidence: float = 0.8) -> FloatArray:
    """Probabilities (n, 3) that name these positions with this confidence; None makes a row of NaN."""
    table = np.full((len(positions), 3), (1 - confidence) / 2, dtype=np.float32)
    for row, position in enumerate(positions):
        table[row, position or 0] = confidence
        if position is None:
            table[row] = np.nan
    return table


def scores_of(text: Sequence[int | None], image: Sequence[int | None], both: Sequence[int]) -> Scores:
    """Scores of products whose text, photo and both name these positions; every other one is accepted."""
    return Scores(sure_of(both), sure_of(text), sure_of(image), np.arange(len(both)) % 2 == 0)


def some_report() -> tuple[EvaluationReport, Scores, IntArray]:
    """A report of five products, its scores and the truth."""
    truth = np.array([0, 0, 1, 2, 2])
    scores = scores_of([0, 1, 1, 2, 2], [0, 0, None, 1, 1], [0, 0, 1, 2, 1])
    return evaluation_report(scores, truth, CODES, LABELS, dataset_version="20260101T000000Z-abcd"), scores, truth
