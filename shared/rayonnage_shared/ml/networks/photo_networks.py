"""The Keras photo families: a pretrained network, a dense layer and a softmax, in one ONNX file."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import ClassVar, Self

from rayonnage_shared.ml.base.model import (
    DEFAULTS,
    Fitted,
    Fitting,
    ImageModel,
    Labels,
    ModelOutput,
    Pixels,
    Span,
)
from rayonnage_shared.ml.base.parameters import Bounds, Choice, Parameter, Parameters
from rayonnage_shared.ml.calibration.curve import Calibration
from rayonnage_shared.ml.networks.keras.application import Backbone
from rayonnage_shared.ml.networks.keras.pretrained_weights import check_weights
from rayonnage_shared.ml.networks.keras.runtime import check_tensorflow
from rayonnage_shared.ml.networks.quantization import PRECISIONS
from rayonnage_shared.ml.networks.scoring_network import ScoringNetwork

_SMALLEST_INPUT = 32  # of keras.applications; five halvings leave one place


class PhotoNetwork(ImageModel):
    """A photo family trained with Keras and served as ONNX."""

    backbone: ClassVar[Backbone]
    parameters: ClassVar[Parameters] = {
        "weights": "imagenet",
        "input_size": 224,
        "epochs": 20,
        "patience": 3,
        "batch_size": 32,
        "learning_rate": 0.001,
        "fine_tune_epochs": 4,
        "fine_tune_learning_rate": 0.00002,
        "features": 256,
        "dropout": 0.4,
        "balance": 0.5,
        "precision": "fp32",
    }
    bounds: ClassVar[Mapping[str, Bounds | Choice]] = {
        "input_size": Bounds(_SMALLEST_INPUT, 1024),
        "epochs": Bounds(1, 1000),
        "patience": Bounds(1, 1000),
        "batch_size": Bounds(1, 4096),
        "learning_rate": Bounds(1e-8, 1),
        "fine_tune_epochs": Bounds(0, 1000),
        "fine_tune_learning_rate": Bounds(1e-8, 1),
        "features": Bounds(1, 4096),
        "dropout": Bounds(0, 0.9),
        "balance": Bounds(0, 2),
        "precision": Choice(PRECISIONS),
    }
    installed_by = "keras"
    search_space: ClassVar[Mapping[str, Span | Choice]] = {
        "learning_rate": Span(0.0002, 0.005, logarithmic=True),
        "fine_tune_epochs": Span(0, 8, whole=True),
        "dropout": Span(0.1, 0.6),
        "balance": Span(0.0, 1.0),
    }

    def __init__(self, network: ScoringNetwork, calibration: Calibration) -> None:
        self._network = network
        self._calibration = calibration
        self.input_size = network.input_shape[1]

    @classmethod
    def resolve(cls, parameters: Parameters) -> dict[str, Parameter]:
        """Return the defaults updated with `parameters`. Raises BadInput for an invalid value."""
        resolved = super().resolve(parameters)
        check_weights(str(resolved["weights"]))
        return resolved

    @classmethod
    def check_trainable(cls) -> None:
        """Raise FamilyNotTrainable if TensorFlow is not installed."""
        check_tensorflow()

    @classmethod
    def fit(cls, photos: Sequence[Path], labels: Labels, fitting: Fitting = DEFAULTS) -> Fitted[Self]:
        """Return the model fitted without the first fold, that fold's probabilities, and learning curves.

        With pretrained weights the head is trained on the frozen network's features, then the last block with it at a
        low rate; without, the whole network from random weights. Also raises WeightsMissing and HubUnreachable.
        """
        from rayonnage_shared.ml.networks.keras.photo_training import fit_photos

        trained = fit_photos(cls.backbone, photos, labels, cls.resolve(fitting.parameters), fitting)
        variant = trained.chosen.variant
        model = cls(ScoringNetwork(variant.network), variant.calibration)
        return Fitted(model, variant.held_out, trained.curves, trained.facts)

    def output(self, pixels: Pixels) -> ModelOutput:
        """Return calibrated probabilities (n, n_classes) and features (n, width) for pixels (n, size, size, 3)."""
        scores, features = self._network.run(pixels)
        return ModelOutput(self._calibration.probabilities(scores), features)

    def save(self, folder: Path) -> None:
        """Write network.onnx and calibration.npz."""
        self._network.save(folder / "network.onnx")
        self._calibration.save(folder / "calibration.npz")

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Load what `save` wrote."""
        network = ScoringNetwork(folder / "network.onnx")
        return cls(network, Calibration.load(folder / "calibration.npz"))
