"""`efficientnet-lite0`, the default for photos: frozen ImageNet features and a linear head."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import ClassVar, Self

from rayonnage_shared.ml.base.model import (
    DEFAULTS,
    Fitted,
    Fitting,
    FloatArray,
    Labels,
    ModelOutput,
    Span,
)
from rayonnage_shared.ml.base.parameters import Bounds, Choice, Parameters
from rayonnage_shared.ml.calibration.curve import Calibration
from rayonnage_shared.ml.features.photo_features import FrozenNetworkModel, PhotoFeatures, head_inputs
from rayonnage_shared.ml.linear.svm import LinearModel
from rayonnage_shared.ml.networks.quantization import PRECISIONS


class EfficientNetLite0(FrozenNetworkModel):
    """Features from the end and the middle of EfficientNet-Lite0 and a linear classifier of their square roots."""

    name = "efficientnet-lite0"
    input_size = 224
    parameters: ClassVar[Parameters] = {"penalty": 0.1, "precision": "fp32"}
    bounds: ClassVar[Mapping[str, Bounds | Choice]] = {"penalty": Bounds(1e-4, 1e4), "precision": Choice(PRECISIONS)}
    search_space: ClassVar[Mapping[str, Span | Choice]] = {"penalty": Span(0.005, 2.0, logarithmic=True)}

    def __init__(self, features: PhotoFeatures, head: LinearModel, calibration: Calibration) -> None:
        self.photo_features = features
        self._head = head
        self._calibration = calibration

    @classmethod
    def fit(cls, photos: Sequence[Path], labels: Labels, fitting: Fitting = DEFAULTS) -> Fitted[Self]:
        """Return the model and held-out probabilities; deterministic, so the seed has no effect."""
        from rayonnage_shared.ml.linear.head_curve import head_learning_curve
        from rayonnage_shared.ml.linear.photo_heads import fit_photo_heads
        from rayonnage_shared.ml.networks.backbone import build_backbone

        parameters = cls.resolve(fitting.parameters)
        penalty = float(parameters["penalty"])
        asked = str(parameters["precision"])
        made = fit_photo_heads(build_backbone(), photos, labels, asked=asked, penalty=penalty, fitting=fitting)
        used = made.variant
        model = cls(PhotoFeatures(used.network), used.head, used.calibration)
        curves = head_learning_curve(used.inputs, labels, penalty=penalty)
        return Fitted(model, used.held_out, curves, facts={"precision": dict(made.facts)}, features=used.inputs)

    def output_of(self, features: FloatArray) -> ModelOutput:
        """Return calibrated probabilities (n, n_classes) and the head's inputs (n, 1504) for features (n, 1504)."""
        inputs = head_inputs(features)
        return ModelOutput(self._calibration.probabilities(inputs @ self._head.weights + self._head.intercept), inputs)

    def save(self, folder: Path) -> None:
        """Write backbone.onnx, head.npz and calibration.npz."""
        (folder / "backbone.onnx").write_bytes(self.photo_features.network)
        self._head.save(folder / "head.npz")
        self._calibration.save(folder / "calibration.npz")

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Load what `save` wrote."""
        return cls(
            PhotoFeatures((folder / "backbone.onnx").read_bytes()),
            LinearModel.load(folder / "head.npz"),
            Calibration.load(folder / "calibration.npz"),
        )
