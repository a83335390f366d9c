"""`lstm`: a bidirectional recurrent network over words."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import ClassVar, Self

from rayonnage_shared.ml.base.model import (
    DEFAULTS,
    Fitted,
    Fitting,
    Labels,
    ModelOutput,
    ProductText,
    Span,
    TextModel,
)
from rayonnage_shared.ml.base.parameters import Bounds, Choice, Parameters
from rayonnage_shared.ml.calibration.curve import Calibration
from rayonnage_shared.ml.networks.keras.runtime import check_tensorflow
from rayonnage_shared.ml.networks.quantization import PRECISIONS
from rayonnage_shared.ml.networks.scoring_network import ScoringNetwork
from rayonnage_shared.ml.networks.word_tokens import WordTokens


class Lstm(TextModel):
    """Word embedding, bidirectional LSTM, a dense layer of 128 features, softmax."""

    name = "lstm"
    parameters: ClassVar[Parameters] = {
        "epochs": 24,
        "patience": 4,
        "batch_size": 64,
        "learning_rate": 0.002,
        "vocabulary": 20_000,
        "length": 120,
        "word_vectors": "sentence",
        "embedding_width": 96,
        "units": 64,
        "dropout": 0.4,
        "balance": 0.5,
        "precision": "fp32",
    }
    bounds: ClassVar[Mapping[str, Bounds | Choice]] = {
        "epochs": Bounds(1, 1000),
        "patience": Bounds(1, 1000),
        "batch_size": Bounds(1, 4096),
        "learning_rate": Bounds(1e-7, 1),
        "vocabulary": Bounds(1, 1_000_000),
        "length": Bounds(4, 2000),
        "word_vectors": Choice(("sentence", "random")),
        "embedding_width": Bounds(1, 1024),
        "units": Bounds(1, 1024),
        "dropout": Bounds(0, 0.9),
        "balance": Bounds(0, 2),
        "precision": Choice(PRECISIONS),
    }
    installed_by = "keras"
    search_space: ClassVar[Mapping[str, Span | Choice]] = {
        "learning_rate": Span(0.0005, 0.01, logarithmic=True),
        "units": Span(32, 128, whole=True),
        "dropout": Span(0.1, 0.6),
        "balance": Span(0.0, 1.0),
    }

    def __init__(self, tokens: WordTokens, network: ScoringNetwork, calibration: Calibration) -> None:
        self._tokens = tokens
        self._network = network
        self._calibration = calibration

    @classmethod
    def check_trainable(cls) -> None:
        """Raise FamilyNotTrainable if TensorFlow is not installed."""
        check_tensorflow()

    @classmethod
    def fit(cls, texts: Sequence[ProductText], labels: Labels, fitting: Fitting = DEFAULTS) -> Fitted[Self]:
        """Return the model fitted without the first fold, that fold's probabilities, and learning curves."""
        from rayonnage_shared.ml.networks.keras.lstm_training import fit_lstm

        trained = fit_lstm(texts, labels, cls.resolve(fitting.parameters), fitting)
        variant = trained.chosen.variant
        model = cls(trained.tokens, ScoringNetwork(variant.network), variant.calibration)
        return Fitted(model, variant.held_out, trained.curves, trained.facts)

    def output(self, texts: Sequence[ProductText]) -> ModelOutput:
        """Return calibrated probabilities (n, n_classes) and features (n, 128)."""
        scores, features = self._network.run_padded([self._tokens.row(text) for text in texts])
        return ModelOutput(self._calibration.probabilities(scores), features)

    def save(self, folder: Path) -> None:
        """Write network.onnx, words.json and calibration.npz."""
        self._network.save(folder / "network.onnx")
        self._tokens.save(folder / "words.json")
        self._calibration.save(folder / "calibration.npz")

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Load what `save` wrote."""
        return cls(
            WordTokens.load(folder / "words.json"),
            ScoringNetwork(folder / "network.onnx"),
            Calibration.load(folder / "calibration.npz"),
        )
