"""Fits linear heads on a frozen photo network's features, in fp32 and, where it is asked for and as good, in int8."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from rayonnage_shared.ml.calibration import Calibration, cross_calibrated
from rayonnage_shared.ml.discriminant import fit_discriminant
from rayonnage_shared.ml.families.base import FloatArray, Labels
from rayonnage_shared.ml.linear import LinearModel
from rayonnage_shared.ml.photo_features import PhotoFeatures, head_inputs, read_photo_file
from rayonnage_shared.ml.progress import Progress, part
from rayonnage_shared.ml.quantization import Chosen, Variant, asked_precision, choose, quantize_convolutions, spread

_READING = 0.8  # share of the time that reading photos takes


@dataclass(frozen=True)
class HeadVariant(Variant):
    """A network in one precision with the head fitted on its features, which are `inputs` (n, width)."""

    head: LinearModel
    inputs: FloatArray


def fit_photo_heads(
    network: bytes, photos: Sequence[Path], labels: Labels, *, asked: str, penalty: float, progress: Progress
) -> Chosen[HeadVariant]:
    """Return the head fitted on all photos and held-out probabilities of heads that did not see the row's fold.

    The int8 network has a head of its own, so that what it changes evenly costs nothing. Raises BadInput for an
    unknown precision, and NotAnImage naming a bad file.
    """
    asked_precision({"precision": asked})
    share = 1.0 if asked == "fp32" else 0.55
    fp32 = _fit(network, photos, labels, penalty, part(progress, 0, share))

    def int8() -> HeadVariant:
        size = PhotoFeatures(network).size
        pixels = [read_photo_file(photos[row], size)[None] for row in spread(np.arange(len(photos)))]
        progress(share, "int8: ranges of activations")
        return _fit(quantize_convolutions(network, "pixels", pixels), photos, labels, penalty, part(progress, share, 1))

    return choose(asked, fp32, labels.classes, int8)


def _fit(network: bytes, photos: Sequence[Path], labels: Labels, penalty: float, progress: Progress) -> HeadVariant:
    inputs = head_inputs(PhotoFeatures(network).embed_files(photos, part(progress, 0, _READING)))
    folds = np.unique(labels.folds)
    held_out = folds if len(folds) > 1 else folds[:0]
    scores = np.full((len(photos), labels.n_classes), np.nan, dtype=np.float32)
    heads = part(progress, _READING, 1)
    for done, fold in enumerate(held_out):
        heads(done / (len(held_out) + 1), f"fold {done + 1} of {len(held_out)}")
        test = labels.folds == fold
        head = fit_discriminant(inputs[~test], labels.classes[~test], labels.n_classes, penalty=penalty)
        scores[test] = inputs[test] @ head.weights + head.intercept
    heads(len(held_out) / (len(held_out) + 1), "all photos")
    head = fit_discriminant(inputs, labels.classes, labels.n_classes, penalty=penalty)
    rows = np.isin(labels.folds, held_out)
    calibration = Calibration.fit(scores[rows], labels.classes[rows], np.unique(labels.classes))
    return HeadVariant(network, calibration, cross_calibrated(scores, labels, held_out), head, inputs)
