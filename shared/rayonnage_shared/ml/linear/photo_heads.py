"""Fit linear heads on a frozen photo network's features, in fp32 or, if requested and as accurate, in int8."""

from __future__ import annotations

from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from threadpoolctl import threadpool_limits

from rayonnage_shared.ml.base.model import Fitting, FloatArray, IntArray, Labels
from rayonnage_shared.ml.base.progress import Progress, part
from rayonnage_shared.ml.calibration.curve import Calibration, cross_calibrated
from rayonnage_shared.ml.features.photo_features import PhotoFeatures, head_inputs, read_photo_file, usable_cores
from rayonnage_shared.ml.linear.discriminant import fit_discriminant
from rayonnage_shared.ml.linear.svm import LinearModel
from rayonnage_shared.ml.networks.quantization import (
    Chosen,
    Variant,
    choose,
    quantize_convolutions,
    spread,
)

_READING = 0.8  # share of the time that reading photos takes


@dataclass(frozen=True)
class HeadVariant(Variant):
    """A network in one precision with the head fitted on its features, which are `inputs` (n, width)."""

    head: LinearModel
    inputs: FloatArray


def fit_photo_heads(
    network: bytes, photos: Sequence[Path], labels: Labels, *, asked: str, penalty: float, fitting: Fitting
) -> Chosen[HeadVariant]:
    """Return the head fitted on all photos and held-out probabilities of heads that did not see the row's fold.

    The int8 network has its own head, which absorbs systematic changes of the features. Raises NotAnImage naming a
    bad file.
    """
    share = 1.0 if asked == "fp32" else 0.55

    def fit(network: bytes, start: float, end: float) -> HeadVariant:
        told = part(fitting.progress, start, end)
        features = PhotoFeatures(network).embed_files(photos, part(told, 0, _READING), fitting.photo_features)
        return _fit(network, head_inputs(features), labels, penalty, part(told, _READING, 1))

    def int8() -> HeadVariant:
        size = PhotoFeatures(network).size
        pixels = [read_photo_file(photos[row], size)[None] for row in spread(np.arange(len(photos)))]
        fitting.progress(share, "int8: ranges of activations")
        return fit(quantize_convolutions(network, "pixels", pixels), share, 1)

    return choose(asked, fit(network, 0, share), labels.classes, int8)


def _fit(network: bytes, inputs: FloatArray, labels: Labels, penalty: float, progress: Progress) -> HeadVariant:
    folds = np.unique(labels.folds)
    held_out = folds if len(folds) > 1 else folds[:0]
    scores = np.full((len(inputs), labels.n_classes), np.nan, dtype=np.float32)
    *of_folds, head = _fit_heads(inputs, labels, held_out, penalty, progress)
    for fold, other in zip(held_out, of_folds, strict=True):
        test = labels.folds == fold
        scores[test] = inputs[test] @ other.weights + other.intercept
    rows = np.isin(labels.folds, held_out)
    calibration = Calibration.fit(scores[rows], labels.classes[rows], np.unique(labels.classes))
    return HeadVariant(network, calibration, cross_calibrated(scores, labels, held_out), head, inputs)


def _fit_heads(
    inputs: FloatArray, labels: Labels, held_out: IntArray, penalty: float, progress: Progress
) -> list[LinearModel]:
    """Return one head per fold in `held_out`, fitted without that fold, and finally one fitted on all rows.

    One thread per head: on busy cores, BLAS threads that wait for each other made a head of 500 photos cost 4.7 s of
    CPU time instead of 0.6 s.
    """

    def fit(fold: int | None) -> LinearModel:
        rows = labels.folds != (-1 if fold is None else fold)
        return fit_discriminant(inputs[rows], labels.classes[rows], labels.n_classes, penalty=penalty)

    found = []
    with threadpool_limits(1, user_api="blas"), ThreadPoolExecutor(usable_cores(), thread_name_prefix="heads") as pool:
        for head in pool.map(fit, [*held_out.tolist(), None]):
            found.append(head)
            progress(len(found) / (len(held_out) + 1), f"head {len(found)} of {len(held_out) + 1}")
    return found
