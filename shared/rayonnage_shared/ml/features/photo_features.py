"""Run a photo network in ONNX Runtime: pixels to features, for one request or a whole catalogue."""

from __future__ import annotations

import os
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np

from rayonnage_shared.core.errors import RayonnageError
from rayonnage_shared.ml.base.model import FloatArray, Pixels
from rayonnage_shared.ml.base.progress import Progress, silent
from rayonnage_shared.ml.features.photos import NotAnImage, PhotoLimits, read_photo

_STEP = 64
"""Photos between two progress reports, at which a cancelled job stops."""


class PhotoFeatures:
    """A network with input `pixels` (n, size, size, 3) uint8 RGB and output `embedding`; threads may share it.

    One call uses one thread: two concurrent calls have a higher throughput than two threads on one photo.
    """

    def __init__(self, network: bytes) -> None:
        import onnxruntime

        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        options.inter_op_num_threads = 1
        self.network = network
        self._session = onnxruntime.InferenceSession(network, options, providers=["CPUExecutionProvider"])
        self.size = int(self._session.get_inputs()[0].shape[1])

    def embed(self, pixels: Pixels) -> FloatArray:
        """Return features (n, width) float32."""
        (features,) = self._session.run(["embedding"], {"pixels": pixels})
        return np.asarray(features, dtype=np.float32)

    def embed_files(self, photos: Sequence[Path], progress: Progress = silent) -> FloatArray:
        """Return features (n, width) of photo files, on all cores; raises `NotAnImage`, which names the file."""
        found: list[FloatArray] = []
        with ThreadPoolExecutor(usable_cores(), thread_name_prefix="photos") as pool:
            for start in range(0, len(photos), _STEP):
                some = photos[start : start + _STEP]
                found += pool.map(self._embed_file, some)
                progress((start + len(some)) / len(photos), f"{start + len(some)} of {len(photos)} photos read")
        return np.concatenate(found)

    def _embed_file(self, photo: Path) -> FloatArray:
        # One by one: on a CPU a convolutional network costs more per photo in batches.
        return self.embed(read_photo_file(photo, self.size)[None])


def head_inputs(features: FloatArray) -> FloatArray:
    """Return the signed square roots of features (n, width), the input of the linear head.

    Most are long-tailed averages of ReLU6 outputs; the roots gain half a point of weighted F1.
    """
    return np.sign(features) * np.sqrt(np.abs(features))


def read_photo_file(photo: Path, size: int) -> Pixels:
    """Return a photo file as (size, size, 3) uint8 RGB; raises `NotAnImage`, which names the file."""
    try:
        return read_photo(photo.read_bytes(), size, PhotoLimits())
    except RayonnageError as err:
        raise NotAnImage(f"{photo.name}: {err.detail}") from err


def usable_cores() -> int:
    """Return how many cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
