"""Out-of-fold probabilities of training rows, stored beside a model for later fusions."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Self

import numpy as np

from rayonnage_shared.ml.base.model import FloatArray


@dataclass(frozen=True)
class HeldOut:
    """`probabilities` (n, n_classes) for the products `ids`; a row without an out-of-fold prediction is NaN."""

    ids: list[str]
    probabilities: FloatArray
    codes: tuple[int, ...]

    @cached_property
    def positions(self) -> dict[str, int]:
        """Row by product id."""
        return {one: row for row, one in enumerate(self.ids)}

    def rows(self, ids: Sequence[str]) -> FloatArray:
        """Return (len(ids), n_classes); NaN for products without a row."""
        table = np.full((len(ids), len(self.codes)), np.nan, dtype=np.float32)
        pairs = [(target, self.positions[one]) for target, one in enumerate(ids) if one in self.positions]
        if pairs:
            targets, sources = np.array(pairs).T
            table[targets] = self.probabilities[sources]
        return table

    def extended(self, ids: Sequence[str], probabilities: FloatArray) -> HeldOut:
        """Return a copy with these rows appended."""
        return HeldOut([*self.ids, *ids], np.concatenate([self.probabilities, probabilities]), self.codes)

    def save(self, path: Path) -> None:
        """Write one file, without pickle; float16 keeps three digits."""
        np.savez_compressed(
            path,
            ids=np.array(self.ids, dtype=np.str_),
            probabilities=self.probabilities.astype(np.float16),
            codes=np.array(self.codes),
        )

    @classmethod
    def load(cls, path: Path) -> Self:
        with np.load(path, allow_pickle=False) as file:
            probabilities = file["probabilities"].astype(np.float32)
            codes = tuple(int(code) for code in file["codes"])
            return cls([str(one) for one in file["ids"]], probabilities, codes)
