"""Train a Keras photo family: the head on frozen features, then the last block too; or everything from scratch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from io import BytesIO
from pathlib import Path
from typing import Any, Self

import numpy as np

from rayonnage_shared.core.errors import BadInput
from rayonnage_shared.core.files import write_atomically
from rayonnage_shared.ml.base.model import Curve, Fitting, FloatArray, Labels, Pixels
from rayonnage_shared.ml.base.parameters import Parameters
from rayonnage_shared.ml.base.progress import Progress, part
from rayonnage_shared.ml.features.photo_features import read_photo_file
from rayonnage_shared.ml.networks.epochs import learning_curves
from rayonnage_shared.ml.networks.held_out_split import Split
from rayonnage_shared.ml.networks.keras.application import Backbone
from rayonnage_shared.ml.networks.keras.checkpoints import Checkpoints, fingerprint
from rayonnage_shared.ml.networks.keras.onnx_export import check_export, export_network
from rayonnage_shared.ml.networks.keras.photo_examples import FeatureExamples, PhotoExamples, in_parts
from rayonnage_shared.ml.networks.keras.pretrained_weights import PretrainedWeights, find_weights
from rayonnage_shared.ml.networks.keras.runtime import Runtime, start_tensorflow
from rayonnage_shared.ml.networks.keras.training import Examples, Learned, Learner, Phase
from rayonnage_shared.ml.networks.quantization import (
    Chosen,
    Variant,
    choose_network,
    quantize_convolutions,
    spread,
)
from rayonnage_shared.ml.networks.scoring_network import ScoringNetwork

# Blue, green, red: subtracted by the "caffe" preprocessing of keras.applications.
_IMAGENET_MEAN = (103.939, 116.779, 123.68)
_CHECKED_ROWS = 16
_FEATURE_BATCH = 32
_FEATURES_KEPT_EVERY = 512  # photos: the most that a killed run computes again
_SHARE_READ, _SHARE_HEAD, _SHARE_TUNED, _SHARE_EXPORTED = 0.3, 0.4, 0.9, 0.95


@dataclass(frozen=True, slots=True)
class PhotoSettings:
    """The parameters, converted: `whole` trains everything; otherwise `head` is trained first, then `tune`."""

    weights: str
    input_size: int
    whole: Phase
    head: Phase
    tune: Phase
    features: int
    dropout: float
    balance: float
    precision: str

    @classmethod
    def of(cls, parameters: Parameters) -> Self:
        """Return the settings from the resolved parameters."""
        epochs, tuned, patience, batch_size = (
            int(parameters[name]) for name in ("epochs", "fine_tune_epochs", "patience", "batch_size")
        )
        rate, tuned_rate = (float(parameters[name]) for name in ("learning_rate", "fine_tune_learning_rate"))
        return cls(
            str(parameters["weights"]),
            int(parameters["input_size"]),
            Phase("network", epochs, patience, batch_size, rate),
            Phase("head", epochs, patience, batch_size, rate),
            Phase("last block", tuned, patience, batch_size, tuned_rate),
            int(parameters["features"]),
            float(parameters["dropout"]),
            float(parameters["balance"]),
            str(parameters["precision"]),
        )


@dataclass(frozen=True)
class TrainedPhotos:
    """The network in the chosen precision, learning curves, and facts for the manifest."""

    chosen: Chosen[Variant]
    curves: tuple[Curve, ...]
    facts: Mapping[str, Any]


def fit_photos(
    backbone: Backbone, photos: Sequence[Path], labels: Labels, parameters: Mapping[str, Any], fitting: Fitting
) -> TrainedPhotos:
    """Return the network, fitted without the held-out fold.

    Raises BadInput, WeightsMissing, HubUnreachable, NotAnImage, FamilyNotTrainable, TrainingDiverged or
    ExportDiffers.
    """
    settings = PhotoSettings.of(parameters)
    weights = find_weights(settings.weights, fitting.pretrained, backbone.hub, fitting.progress)
    fitting.progress(0.0, f"{backbone.application}: starting TensorFlow")
    runtime = start_tensorflow(fitting.seed)
    training = _PhotoTraining(runtime, backbone, weights, settings, photos, Split.of(labels, settings.balance), fitting)
    training.load_weights()
    learned = training.whole() if weights.path is None else training.head_then_last_block()
    fitting.progress(_SHARE_TUNED, f"{backbone.application}: exporting")
    exported, export = training.export()
    fitting.progress(_SHARE_EXPORTED, f"{backbone.application}: {settings.precision}")
    chosen = training.choose(exported, learned[-1].held_out_scores)
    facts = {
        "frameworks": runtime.frameworks(),
        "weights": weights.facts(),
        "input_size": settings.input_size,
        "training": {name: one.facts() for name, one in zip(training.phases, learned, strict=True)},
        "export": export,
        "precision": dict(chosen.facts),
    }
    return TrainedPhotos(chosen, learning_curves([epoch for one in learned for epoch in one.history]), facts)


@dataclass(frozen=True)
class _PhotoTraining:
    runtime: Runtime
    backbone: Backbone
    weights: PretrainedWeights
    settings: PhotoSettings
    photos: Sequence[Path]
    split: Split
    fitting: Fitting

    @property
    def phases(self) -> tuple[str, ...]:
        """Names of the phases of this training."""
        return ("network",) if self.weights.path is None else ("head", "last block")

    @cached_property
    def frozen(self) -> Any:
        """The network of keras.applications without its classifier, with average pooling and random weights."""
        size = self.settings.input_size
        application = getattr(self.runtime.keras.applications, self.backbone.application)
        return application(include_top=False, weights=None, input_shape=(size, size, 3), pooling="avg")

    @cached_property
    def pixels(self) -> Any:
        size = self.settings.input_size
        return self.runtime.keras.Input((size, size, 3), dtype="uint8", name="pixels")

    @cached_property
    def pooled(self) -> Any:
        """Output of the network of keras.applications for the pixels."""
        blue_first = self.runtime.keras.ops.cast(self.pixels, "float32")[..., ::-1]
        return self.frozen(blue_first - np.array(_IMAGENET_MEAN, dtype=np.float32))

    @cached_property
    def head(self) -> Any:
        """The layers on top: features of the frozen network in, scores and the family's features out."""
        keras = self.runtime.keras
        inputs = keras.Input((self.frozen.output_shape[-1],), name="pooled")
        features = keras.layers.Dense(self.settings.features, activation="relu", name="features")(
            keras.layers.Dropout(self.settings.dropout)(inputs)
        )
        scores = keras.layers.Dense(self.split.labels.n_classes, name="scores")(
            keras.layers.Dropout(self.settings.dropout)(features)
        )
        return keras.Model(inputs, [scores, features])

    @cached_property
    def network(self) -> Any:
        """The whole network: pixels in, scores and features out."""
        return self.runtime.keras.Model(self.pixels, self.head(self.pooled))

    @cached_property
    def examples(self) -> PhotoExamples:
        return PhotoExamples(self.photos, self.settings.input_size)

    @cached_property
    def mark(self) -> str:
        """Fingerprint of what the training depends on; photos are named by their content, so names are enough."""
        facts = {
            "seed": self.fitting.seed,
            "family": self.backbone.application,
            "weights": self.weights.facts(),
            "parameters": repr(self.settings),
            "photos": [photo.name for photo in self.photos],
        }
        return fingerprint(facts, self.split.labels.classes, self.split.labels.folds)

    def load_weights(self) -> None:
        """Load the file into the network of keras.applications. Raises BadInput if the file does not fit."""
        if self.weights.path is None:
            return
        try:
            self.frozen.load_weights(self.weights.path)
        except Exception as err:  # Keras and h5py raise unrelated exceptions for a wrong file
            raise BadInput(
                f"{self.weights.path.name} does not contain weights of {self.backbone.application} without its "
                "classifier (`include_top=False`). Save the weights that way, or name another file."
            ) from err

    def whole(self) -> tuple[Learned, ...]:
        """Train the whole network."""
        return (self._learn(self.network, self.examples, self.settings.whole, (0, _SHARE_TUNED)),)

    def head_then_last_block(self) -> tuple[Learned, ...]:
        """Train the head on features that are computed once, then the last block and the head at a low rate."""
        self.frozen.trainable = False
        features = self._pooled_features(part(self.fitting.progress, 0, _SHARE_READ))
        head = self._learn(self.head, FeatureExamples(features), self.settings.head, (_SHARE_READ, _SHARE_HEAD))
        normalization = self.runtime.keras.layers.BatchNormalization
        self.frozen.trainable = True
        for layer in self.frozen.layers:
            # ImageNet's batch statistics are better than those of small batches.
            layer.trainable = layer.name.startswith(self.backbone.last_block) and not isinstance(layer, normalization)
        start = head.held_out_scores if len(self.split.held_out) else None
        tuned = self._learn(self.network, self.examples, self.settings.tune, (_SHARE_HEAD, _SHARE_TUNED), start)
        return head, tuned

    def export(self) -> tuple[bytes, dict[str, float | int]]:
        """Return the whole network as ONNX, compared with Keras on real photos, and the metrics of that comparison."""
        size = self.settings.input_size
        exported = export_network(self.runtime, self.network, "pixels", (size, size, 3))
        rows = spread(np.arange(len(self.photos)), _CHECKED_ROWS)
        pixels = self.examples.inputs(rows, None)
        return exported, check_export(exported, pixels, self._learner(self.network, self.examples).says(pixels))

    def choose(self, exported: bytes, scores: FloatArray) -> Chosen[Variant]:
        """Return the network in the requested precision if it is accurate enough, else in fp32."""

        def quantize(network: bytes) -> bytes:
            rows = spread(self.split.train)
            pixels = self.examples.inputs(rows, None)
            return quantize_convolutions(network, "pixels", np.split(pixels, len(rows)))

        def score(network: bytes) -> FloatArray:
            photos = [self.photos[row] for row in self.split.held_out]
            progress = part(self.fitting.progress, _SHARE_EXPORTED, 1)
            return ScoringNetwork(network).run_each(photos, self._read, progress).scores

        return choose_network(self.settings.precision, exported, scores, self.split, quantize=quantize, score=score)

    def _read(self, photo: Path) -> Pixels:
        return read_photo_file(photo, self.settings.input_size)

    def _learn(
        self,
        network: Any,
        examples: Examples,
        phase: Phase,
        share: tuple[float, float],
        start: FloatArray | None = None,
    ) -> Learned:
        checkpoints = Checkpoints(self.fitting.checkpoints, phase.name.replace(" ", "-"), self.mark)
        learner = self._learner(network, examples)
        return learner.learn(phase, checkpoints, part(self.fitting.progress, *share), start)

    def _learner(self, network: Any, examples: Examples) -> Learner:
        return Learner(self.runtime, network, examples, self.split, self.fitting.seed)

    def _pooled_features(self, progress: Progress) -> FloatArray:
        """Return the frozen network's features of all photos (n, width), saved in parts for a killed run."""
        pooled = self.runtime.keras.Model(self.pixels, self.pooled)
        folder = self.fitting.checkpoints
        found = []
        for start in range(0, len(self.photos), _FEATURES_KEPT_EVERY):
            rows = np.arange(start, min(start + _FEATURES_KEPT_EVERY, len(self.photos)))
            path = folder and folder / f"features-{self.mark[:16]}-{start}.npy"
            if path is not None and path.exists():
                found.append(np.load(path, allow_pickle=False))
                continue
            pieces = []
            for batch in in_parts(rows, _FEATURE_BATCH):
                progress(float(batch[0]) / len(self.photos), f"{batch[0]} of {len(self.photos)} photos read")
                pieces.append(pooled.predict_on_batch(self.examples.inputs(batch, None)))
            found.append(np.concatenate(pieces))
            if path is not None:
                content = BytesIO()
                np.save(content, found[-1], allow_pickle=False)
                write_atomically(path, content.getvalue())
        return np.concatenate(found)
