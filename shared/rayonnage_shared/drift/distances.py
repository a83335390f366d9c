"""Distances between two samples, by type of column, each with a p-value.

All three distances are effect sizes, which do not grow with the number of rows; the p-value is for significance.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from rayonnage_shared.ml.base.model import FloatArray

Numbers = NDArray[np.float64]


class Distance(NamedTuple):
    """A distance, the probability of one as large between samples of one population, and the difference in words."""

    size: float
    p_value: float
    where: str = ""


def distance_of_numbers(reference: Numbers, current: Numbers, *, falls_only: bool = False) -> Distance:
    """Return the Kolmogorov–Smirnov distance: the largest gap, 0 to 1, between the shares below any one value.

    With `falls_only` a gap counts only where more of the current numbers are below.
    """
    from scipy.stats import ks_2samp

    found = ks_2samp(reference, current, alternative="less" if falls_only else "two-sided", method="asymp")
    where = f"median {np.median(reference):.3g} → {np.median(current):.3g}"
    return Distance(max(0.0, float(found.statistic)), float(found.pvalue), where)


def distance_of_categories(reference: Sequence[str], current: Sequence[str]) -> Distance:
    """Return Cohen's h of the value whose share has changed most significantly: |2 asin √p - 2 asin √q|, 0 to π.

    0.2 is 50 % against 60 %, or 1 % against 0 % (J. Cohen, Statistical Power Analysis, 1988, chapter 6). The
    p-value is Fisher's exact one, times the number of values that were tested.
    """
    from scipy.stats import fisher_exact

    before, after = Counter(reference), Counter(current)
    values = sorted({*before, *after})
    found: list[Distance] = []
    for value in values:
        counts = [before[value], len(reference) - before[value]], [after[value], len(current) - after[value]]
        p, q = before[value] / len(reference), after[value] / len(current)
        size = abs(2 * np.arcsin(np.sqrt(p)) - 2 * np.arcsin(np.sqrt(q)))
        p_value = min(1.0, float(fisher_exact(counts).pvalue) * len(values))
        found.append(Distance(float(size), p_value, f"{value} {p:.1%} → {q:.1%}"))
    return max(found, key=lambda one: (-one.p_value, one.size))


def distance_of_embeddings(reference: FloatArray, current: FloatArray) -> Distance:
    """Return the squared distance of the means (n, d) and (m, d), as a share of the reference's variance.

    What chance adds is taken off, so that it is about 0 for one population. The p-value is that of the L2-norm test
    with its weighted sum of χ² approximated by one of equal mean and variance (J.-T. Zhang, Analysis of Variance for
    Functional Data, 2013, section 5.2).
    """
    from scipy.stats import chi2

    n, m = len(reference), len(current)
    first, second = reference.astype(np.float64), current.astype(np.float64)
    gap = first.mean(axis=0) - second.mean(axis=0)
    centred = np.concatenate([first - first.mean(axis=0), second - second.mean(axis=0)])
    covariance = centred.T @ centred / (n + m - 2)
    total = float(np.trace(covariance))  # the sum of its eigenvalues
    if total == 0:  # every text is the same
        return Distance(float(gap @ gap > 0), float(not gap @ gap > 0))
    by_chance = total * (1 / n + 1 / m)
    scale = float((covariance**2).sum()) / total  # the sum of their squares is that of its elements
    p_value = float(chi2.sf(gap @ gap / (scale * (1 / n + 1 / m)), total / scale))
    return Distance(max(0.0, float(gap @ gap) - by_chance) / total, p_value)
