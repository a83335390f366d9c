"""`efficientnet-lite0`, the default for photos: frozen ImageNet features and a linear head."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import ClassVar, Self

import numpy as np

from rayonnage_shared.errors import BadInput
from rayonnage_shared.ml.calibration import Calibration, cross_calibrated
from rayonnage_shared.ml.families.base import (
    DEFAULTS,
    Choice,
    Fitted,
    Fitting,
    FloatArray,
    ImageModel,
    Labels,
    Opinion,
    Pixels,
    Span,
)
from rayonnage_shared.ml.linear import LinearModel
from rayonnage_shared.ml.photo_features import PhotoFeatures
from rayonnage_shared.ml.progress import part

_READING = 0.8  # share of the time that reading photos takes


class EfficientNetLite0(ImageModel):
    """Features from the end and the middle of EfficientNet-Lite0 and a linear classifier of their square roots."""

    name = "efficientnet-lite0"
    input_size = 224
    parameters: ClassVar[Mapping[str, float | int | str | bool]] = {"penalty": 0.1}
    search_space: ClassVar[Mapping[str, Span | Choice]] = {"penalty": Span(0.005, 2.0, logarithmic=True)}

    def __init__(self, features: PhotoFeatures, head: LinearModel, calibration: Calibration) -> None:
        self._features = features
        self._head = head
        self._calibration = calibration

    @classmethod
    def fit(cls, photos: Sequence[Path], labels: Labels, fitting: Fitting = DEFAULTS) -> Fitted[Self]:
        """Return the model and held-out probabilities; nothing in it is random, so that the seed changes nothing."""
        from rayonnage_shared.ml.backbone import build_backbone
        from rayonnage_shared.ml.discriminant import fit_discriminant

        penalty = float(cls.resolve(fitting.parameters)["penalty"])
        if penalty <= 0:
            raise BadInput("Parameter 'penalty' of efficientnet-lite0 must be above 0.")
        features = PhotoFeatures(build_backbone())
        inputs = _head_inputs(features.embed_files(photos, part(fitting.progress, 0, _READING)))
        folds = np.unique(labels.folds)
        held_out = folds if len(folds) > 1 else folds[:0]
        scores = np.full((len(photos), labels.n_classes), np.nan, dtype=np.float32)
        heads = part(fitting.progress, _READING, 1)
        for done, fold in enumerate(held_out):
            heads(done / (len(held_out) + 1), f"fold {done + 1} of {len(held_out)}")
            test = labels.folds == fold
            head = fit_discriminant(inputs[~test], labels.classes[~test], labels.n_classes, penalty=penalty)
            scores[test] = inputs[test] @ head.weights + head.intercept
        heads(len(held_out) / (len(held_out) + 1), "all photos")
        head = fit_discriminant(inputs, labels.classes, labels.n_classes, penalty=penalty)
        rows = np.isin(labels.folds, held_out)
        calibration = Calibration.fit(scores[rows], labels.classes[rows], np.unique(labels.classes))
        return Fitted(cls(features, head, calibration), cross_calibrated(scores, labels, held_out), features=inputs)

    def opinion(self, pixels: Pixels) -> Opinion:
        """Return calibrated probabilities (n, n_classes) and features (n, 1504) for pixels (n, 224, 224, 3) uint8."""
        inputs = _head_inputs(self._features.embed(pixels))
        return Opinion(self._calibration.probabilities(inputs @ self._head.weights + self._head.intercept), inputs)

    def save(self, folder: Path) -> None:
        """Write backbone.onnx, head.npz and calibration.npz."""
        (folder / "backbone.onnx").write_bytes(self._features.network)
        self._head.save(folder / "head.npz")
        self._calibration.save(folder / "calibration.npz")

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Return what `save` wrote."""
        return cls(
            PhotoFeatures((folder / "backbone.onnx").read_bytes()),
            LinearModel.load(folder / "head.npz"),
            Calibration.load(folder / "calibration.npz"),
        )


def _head_inputs(features: FloatArray) -> FloatArray:
    # Most are averages of ReLU6 outputs with long tails; roots are worth half a point of weighted F1.
    return np.sign(features) * np.sqrt(np.abs(features))
