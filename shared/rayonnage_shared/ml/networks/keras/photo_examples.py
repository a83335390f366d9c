"""Training inputs of photo networks: files read for each batch, or features computed once by a frozen network."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

from rayonnage_shared.ml.base.model import FloatArray, IntArray, Pixels
from rayonnage_shared.ml.features.photo_features import read_photo_file, usable_cores


class PhotoExamples:
    """Photos read from their files for each batch; training photos are mirrored with a probability of one half."""

    def __init__(self, photos: Sequence[Path], size: int) -> None:
        self._photos = photos
        self._size = size

    def batches(self, rows: IntArray, size: int, random: np.random.Generator) -> list[IntArray]:
        """Return `rows` in a random order, in parts of `size`."""
        return in_parts(random.permutation(rows), size)

    def inputs(self, rows: IntArray, random: np.random.Generator | None) -> Pixels:
        """Return (len(rows), size, size, 3) uint8; raises NotAnImage, which names the file."""
        with ThreadPoolExecutor(usable_cores(), thread_name_prefix="photos") as pool:
            pixels = np.stack(list(pool.map(lambda row: read_photo_file(self._photos[row], self._size), rows)))
        if random is not None:
            mirrored = random.random(len(rows)) < 0.5
            pixels[mirrored] = pixels[mirrored, :, ::-1]
        return pixels


class FeatureExamples:
    """Features computed once by a frozen network."""

    def __init__(self, features: FloatArray) -> None:
        self._features = features

    def batches(self, rows: IntArray, size: int, random: np.random.Generator) -> list[IntArray]:
        """Return `rows` in a random order, in parts of `size`."""
        return in_parts(random.permutation(rows), size)

    def inputs(self, rows: IntArray, random: np.random.Generator | None) -> FloatArray:
        """Return (len(rows), width); there is no augmentation."""
        return self._features[rows]


def in_parts(rows: IntArray, size: int) -> list[IntArray]:
    """Return rows in parts of `size`; the last may be smaller."""
    return [rows[start : start + size] for start in range(0, len(rows), size)]
