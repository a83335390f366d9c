"""Fits a linear classifier on TF-IDF (and dense features beside it) and calibrates it on held-out scores."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from rayonnage_shared.ml.calibration import Calibration
from rayonnage_shared.ml.families.base import FloatArray, IntArray, Labels, ProductText
from rayonnage_shared.ml.linear import LinearModel, fit_svm
from rayonnage_shared.ml.progress import Progress, silent
from rayonnage_shared.ml.term_counts import Sparse, TermCounts
from rayonnage_shared.ml.tfidf import Tfidf

# On few rows a rare term is all there is to a class; on many, terms that stand once only cost memory.
_MANY_ROWS = 2000
_MAX_TERMS = 150_000


@dataclass(frozen=True, slots=True)
class LinearText:
    """A fitted classifier: `linear.weights` has the rows of `tfidf` first, then those of the dense features."""

    tfidf: Tfidf
    linear: LinearModel
    calibration: Calibration


def tfidf_input(text: ProductText) -> str:
    """Return what TF-IDF sees of a product."""
    return f"{text.title} {text.description}"


def fit_linear_text(
    texts: Sequence[ProductText],
    dense: FloatArray | None,
    labels: Labels,
    *,
    penalty: float,
    progress: Progress = silent,
) -> tuple[LinearText, FloatArray]:
    """Return the classifier fitted on all rows and calibrated held-out probabilities (n, n_classes).

    `dense` (n, width) float32 stands beside TF-IDF as given. Each fold's features, model and calibration are fitted
    without it. With one fold there is nothing to hold out: probabilities are NaN and the slope of calibration is 1.
    """
    counts = TermCounts.of(
        [tfidf_input(text) for text in texts], min_rows=2 if len(texts) >= _MANY_ROWS else 1, max_terms=_MAX_TERMS
    )
    folds = np.unique(labels.folds)
    held_out = folds if len(folds) > 1 else folds[:0]
    scores = np.full((len(texts), labels.n_classes), np.nan, dtype=np.float32)
    for done, fold in enumerate(held_out):
        progress(done / (len(held_out) + 1), f"fold {done + 1} of {len(held_out)}")
        test = labels.folds == fold
        _, linear, matrix = _fit(counts, dense, labels, np.flatnonzero(~test), penalty)
        scores[test] = matrix[test] @ linear.weights[: matrix.shape[1]] + linear.intercept
        if dense is not None:
            scores[test] += dense[test] @ linear.weights[matrix.shape[1] :]
    progress(len(held_out) / (len(held_out) + 1), "all rows")
    tfidf, linear, _ = _fit(counts, dense, labels, np.arange(len(texts)), penalty)
    rows = np.isin(labels.folds, held_out)
    calibration = Calibration.fit(scores[rows], labels.classes[rows], np.unique(labels.classes))
    return LinearText(tfidf, linear, calibration), _cross_calibrated(scores, labels, held_out)


def _fit(
    counts: TermCounts, dense: FloatArray | None, labels: Labels, rows: IntArray, penalty: float
) -> tuple[Tfidf, LinearModel, Sparse]:
    tfidf, matrix = counts.weighted(rows)
    blocks = [matrix[rows]] if dense is None else [matrix[rows], dense[rows]]
    ones = np.ones(len(rows), dtype=np.float32)
    linear = fit_svm(blocks, labels.classes[rows], labels.n_classes, penalty=penalty, row_weights=ones)
    return tfidf, linear, matrix


def _cross_calibrated(scores: FloatArray, labels: Labels, held_out: IntArray) -> FloatArray:
    """Return each fold's probabilities by a calibration fitted on the other folds."""
    probabilities = np.full_like(scores, np.nan)
    for fold in held_out:
        test = labels.folds == fold
        others = np.isin(labels.folds, held_out) & ~test
        calibration = Calibration.fit(scores[others], labels.classes[others], np.unique(labels.classes[~test]))
        probabilities[test] = calibration.probabilities(scores[test])
    return probabilities
