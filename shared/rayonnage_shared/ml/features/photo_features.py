"""Run a photo network in ONNX Runtime: pixels to features, for one request or a whole catalogue."""

from __future__ import annotations

import hashlib
import os
from abc import abstractmethod
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property
from pathlib import Path

import numpy as np
import PIL

from rayonnage_shared.core.errors import RayonnageError
from rayonnage_shared.core.files import sha256_of
from rayonnage_shared.ml.base.model import FloatArray, ImageModel, ModelOutput, Pixels
from rayonnage_shared.ml.base.progress import Progress, silent
from rayonnage_shared.ml.features.photo_feature_cache import PhotoFeatureCache
from rayonnage_shared.ml.features.photos import NotAnImage, PhotoLimits, read_photo

_STEP = 64
"""Photos between two progress reports, at which a cancelled job stops."""
_READING = 1
"""Incremented when photos are decoded in another way, so that cached features are computed again."""


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

    @cached_property
    def key(self) -> str:
        """The network and how it is run: what its features depend on beside the photo."""
        import onnxruntime

        network = hashlib.sha256(self.network).hexdigest()
        return f"{network} reading {_READING} pillow {PIL.__version__} onnxruntime {onnxruntime.__version__}"

    def embed(self, pixels: Pixels) -> FloatArray:
        """Return features (n, width) float32."""
        (features,) = self._session.run(["embedding"], {"pixels": pixels})
        return np.asarray(features, dtype=np.float32)

    def embed_files(self, photos: Sequence[Path], progress: Progress = silent, cache: Path | None = None) -> FloatArray:
        """Return features (n, width) of photo files, on all cores; raises `NotAnImage`, which names the file.

        Photos whose features are in the cache, a file, are not decoded; the features of the others are added to it.
        """
        found: list[FloatArray] = []
        with ThreadPoolExecutor(usable_cores(), thread_name_prefix="photos") as pool:
            for start in range(0, len(photos), _STEP):
                some = photos[start : start + _STEP]
                if cache is None:
                    found += pool.map(self._embed_file, some)
                else:
                    found += self._embed_cached(some, pool, PhotoFeatureCache(cache))
                progress((start + len(some)) / len(photos), f"{start + len(some)} of {len(photos)} photos read")
        return np.stack(found)

    def _embed_cached(
        self, photos: Sequence[Path], pool: ThreadPoolExecutor, cache: PhotoFeatureCache
    ) -> list[FloatArray]:
        hashes = list(pool.map(sha256_of, photos))
        known = cache.find(self.key, hashes)
        missing = {name: photo for name, photo in zip(hashes, photos, strict=True) if name not in known}
        made = dict(zip(missing, pool.map(self._embed_file, missing.values()), strict=True))
        if made:
            cache.save(self.key, made)
        known |= made
        return [known[name] for name in hashes]

    def _embed_file(self, photo: Path) -> FloatArray:
        # One by one: on a CPU a convolutional network costs more per photo in batches.
        features: FloatArray = self.embed(read_photo_file(photo, self.size)[None])[0]
        return features


class FrozenNetworkModel(ImageModel):
    """A photo family on the features of a network that its training does not change; they can be cached."""

    photo_features: PhotoFeatures

    @abstractmethod
    def output_of(self, features: FloatArray) -> ModelOutput:
        """Return calibrated probabilities and features for the network's features (n, width)."""

    def output(self, pixels: Pixels) -> ModelOutput:
        """Return calibrated probabilities and features for pixels (n, size, size, 3) uint8 RGB."""
        return self.output_of(self.photo_features.embed(pixels))


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
