"""Labelled products as training reads them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rayonnage_shared.ml.base.model import IntArray, ProductText

TRAIN, TEST, ASIDE = "train", "test", "aside"
N_FOLDS = 5


@dataclass(frozen=True, slots=True)
class Products:
    """Rows of one dataset version; each field has one entry per product.

    `designations` and `descriptions` are as sent, "" where missing. `photos` are sha256 names, None if
    missing. `splits` are "train", "test" or "aside" (used for neither, see `splits.py`). `folds` are 0 to 4, `groups`
    numbers of near-duplicate groups, which share a split and a fold.
    """

    ids: list[str]
    designations: list[str]
    descriptions: list[str]
    codes: IntArray
    photos: list[str | None]
    splits: NDArray[np.str_]
    folds: IntArray
    groups: IntArray

    def __len__(self) -> int:
        return len(self.ids)

    def take(self, rows: NDArray[Any]) -> Products:
        """Return the products at `rows`, a boolean mask (n,) or positions, in that order."""
        positions = np.flatnonzero(rows) if rows.dtype == np.bool_ else rows
        return Products(
            ids=[self.ids[i] for i in positions],
            designations=[self.designations[i] for i in positions],
            descriptions=[self.descriptions[i] for i in positions],
            codes=self.codes[positions],
            photos=[self.photos[i] for i in positions],
            splits=self.splits[positions],
            folds=self.folds[positions],
            groups=self.groups[positions],
        )

    def classes(self, codes: tuple[int, ...]) -> IntArray:
        """Return each product's position (n,) in `codes`, which are sorted and hold every code there is."""
        return class_positions(self.codes, codes)

    def texts(self) -> list[ProductText]:
        """Return the cleaned texts, cleaned as serving does."""
        from rayonnage_shared.ml.features.text import product_text

        return [product_text(*pair) for pair in zip(self.designations, self.descriptions, strict=True)]


def class_positions(found: IntArray, codes: tuple[int, ...]) -> IntArray:
    """Return the position of each of `found` (n,) in the sorted `codes`."""
    positions: IntArray = np.searchsorted(np.asarray(codes), found).astype(np.int64)
    return positions
