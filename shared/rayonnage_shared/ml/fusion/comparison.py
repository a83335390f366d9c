"""Whether a fusion is better than each of its parts alone, on held-out rows that have both modalities."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from rayonnage_shared.ml.base.model import FloatArray, IntArray, known_rows

Part = Literal["text", "image"]

_BOUND = 1.645  # one-sided, 95 %
_FLOOR = 1e-6
"""Least probability that is counted, so that one row cannot decide."""
_WORDS: dict[Part, str] = {"text": "text", "image": "photo"}


@dataclass(frozen=True, slots=True)
class BestPart:
    """The part that predicts products with both modalities instead of the fusion, and why."""

    part: Part
    reason: str


def part_instead_of_fusion(text: FloatArray, image: FloatArray, both: FloatArray, classes: IntArray) -> BestPart | None:
    """Return the best part if the fusion is not better than both parts, else None.

    All probabilities (n, n_classes) are out of fold, NaN where missing; rows without both are left out. The comparison
    is paired: the fusion must have a lower log loss than a part, by more than 1.645 standard errors of the mean
    difference, and be right at least as often.
    """
    rows = known_rows(text) & known_rows(image) & known_rows(both)
    if not rows.any():
        return BestPart("text", "No held-out product has text and photo, so the fusion cannot be compared with text.")
    parts: dict[Part, _Scored] = {
        "text": _Scored.of(text[rows], classes[rows]),
        "image": _Scored.of(image[rows], classes[rows]),
    }
    fused = _Scored.of(both[rows], classes[rows])
    if all(fused.is_better_than(part) for part in parts.values()):
        return None
    best: Part = "image" if parts["image"].accuracy > parts["text"].accuracy else "text"
    alone = parts[best]
    return BestPart(
        best,
        f"On {int(rows.sum())} held-out products with text and photo, the fusion is right {fused.accuracy:.1%} of the "
        f"time with a log loss of {fused.loss:.3f}, the {_WORDS[best]} alone {alone.accuracy:.1%} of the time with "
        f"{alone.loss:.3f}. The fusion is not significantly better.",
    )


@dataclass(frozen=True, slots=True)
class _Scored:
    """Whether each row is right, and its log loss, both (n,)."""

    right: NDArray[np.bool_]
    losses: NDArray[np.float64]

    @classmethod
    def of(cls, probabilities: FloatArray, classes: IntArray) -> _Scored:
        of_truth = probabilities[np.arange(len(classes)), classes].astype(np.float64)
        return cls(probabilities.argmax(axis=1) == classes, -np.log(np.maximum(of_truth, _FLOOR)))

    @property
    def accuracy(self) -> float:
        return float(self.right.mean())

    @property
    def loss(self) -> float:
        return float(self.losses.mean())

    def is_better_than(self, part: _Scored) -> bool:
        gain = part.losses - self.losses
        error = float(gain.std()) / math.sqrt(len(gain))
        return self.accuracy >= part.accuracy and float(gain.mean()) > _BOUND * error
