"""Train the network of the `lstm` family and export it to ONNX."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, Self

import numpy as np

from rayonnage_shared.ml.base.model import Curve, Fitting, FloatArray, IntArray, Labels, ProductText
from rayonnage_shared.ml.base.parameters import Parameters
from rayonnage_shared.ml.base.progress import Progress, part
from rayonnage_shared.ml.features.sentence_embedding import encode_many
from rayonnage_shared.ml.networks.epochs import learning_curves
from rayonnage_shared.ml.networks.held_out_split import Split
from rayonnage_shared.ml.networks.keras.checkpoints import Checkpoints, fingerprint
from rayonnage_shared.ml.networks.keras.lstm_graph import LOW, Dense, Direction, LstmWeights, build_lstm
from rayonnage_shared.ml.networks.keras.onnx_export import check_export
from rayonnage_shared.ml.networks.keras.runtime import Runtime, start_tensorflow
from rayonnage_shared.ml.networks.keras.training import Learner, Phase
from rayonnage_shared.ml.networks.quantization import (
    Chosen,
    Variant,
    choose_network,
    quantize_recurrences,
    spread,
)
from rayonnage_shared.ml.networks.scoring_network import ScoringNetwork
from rayonnage_shared.ml.networks.word_tokens import Tokens, WordTokens, padded

_FEATURES = 128
# Standard deviation of the vectors made from sentence embeddings.
_VECTOR_SCALE = 0.5
# With many rows, a word that occurs in a single product does not generalize.
_MIN_ROWS_TO_DROP_SINGLES = 1000
_CHECKED_ROWS = 64
_VECTORS, _LEARNING = 0.1, 0.95  # fractions of the time at which the word vectors and the epochs are done
# Rows are sorted by length within this many batches: little padding, and the order stays nearly random.
_BATCHES_SORTED_TOGETHER = 12


@dataclass(frozen=True, slots=True)
class LstmSettings:
    """The parameters, converted to their types."""

    phase: Phase
    vocabulary: int
    length: int
    word_vectors: str
    embedding_width: int
    units: int
    dropout: float
    balance: float
    precision: str

    @classmethod
    def of(cls, parameters: Parameters) -> Self:
        """Return the settings from the resolved parameters."""
        whole = {name: int(parameters[name]) for name in ("epochs", "patience", "batch_size")}
        return cls(
            Phase("lstm", **whole, learning_rate=float(parameters["learning_rate"])),
            int(parameters["vocabulary"]),
            int(parameters["length"]),
            str(parameters["word_vectors"]),
            int(parameters["embedding_width"]),
            int(parameters["units"]),
            float(parameters["dropout"]),
            float(parameters["balance"]),
            str(parameters["precision"]),
        )


@dataclass(frozen=True)
class TrainedLstm:
    """The vocabulary, the network in the chosen precision, learning curves, and facts for the manifest."""

    tokens: WordTokens
    chosen: Chosen[Variant]
    curves: tuple[Curve, ...]
    facts: Mapping[str, Any]


class TokenExamples:
    """Rows of word ids; each batch is padded to its longest row."""

    def __init__(self, rows: Sequence[Sequence[int]]) -> None:
        self.rows = rows
        self._lengths = np.array([len(row) for row in rows])

    def batches(self, rows: IntArray, size: int, random: np.random.Generator) -> list[IntArray]:
        """Return `rows` in a random order, in batches of rows of similar length."""
        order = random.permutation(rows)
        parts = []
        for start in range(0, len(order), size * _BATCHES_SORTED_TOGETHER):
            some = order[start : start + size * _BATCHES_SORTED_TOGETHER]
            by_length = some[np.argsort(self._lengths[some], kind="stable")]
            borders = [*range(0, len(by_length), size), len(by_length)]
            parts += [by_length[first:end] for first, end in pairwise(borders)]
        return [parts[place] for place in random.permutation(len(parts))]

    def inputs(self, rows: IntArray, random: np.random.Generator | None) -> Tokens:
        """Return (len(rows), longest) int32; there is no augmentation."""
        return padded([self.rows[row] for row in rows])


def fit_lstm(
    texts: Sequence[ProductText], labels: Labels, parameters: Mapping[str, Any], fitting: Fitting
) -> TrainedLstm:
    """Return the network and its vocabulary, fitted without the held-out fold.

    Raises BadInput, FamilyNotTrainable, TrainingDiverged or
    ExportDiffers.
    """
    settings = LstmSettings.of(parameters)
    split = Split.of(labels, settings.balance)
    tokens = WordTokens.of(
        [texts[row] for row in split.train],
        vocabulary=settings.vocabulary,
        min_rows=2 if len(split.train) >= _MIN_ROWS_TO_DROP_SINGLES else 1,
        length=settings.length,
    )
    rows = [tokens.row(text) for text in texts]
    fitting.progress(0.0, "lstm: starting TensorFlow")
    runtime = start_tensorflow(fitting.seed)
    network = _network(runtime, tokens.size, labels.n_classes, settings)
    if settings.word_vectors == "sentence":
        _set_word_vectors(network, tokens, part(fitting.progress, 0, _VECTORS))
    learner = Learner(runtime, network, TokenExamples(rows), split, fitting.seed)
    mark = fingerprint({"seed": fitting.seed, **parameters}, padded(rows), labels.classes, labels.folds)
    checkpoints = Checkpoints(fitting.checkpoints, "lstm", mark)
    learned = learner.learn(settings.phase, checkpoints, part(fitting.progress, _VECTORS, _LEARNING))
    fitting.progress(_LEARNING, "lstm: exporting")
    exported = build_lstm(_weights(network))
    checked = padded([rows[row] for row in spread(np.arange(len(rows)), _CHECKED_ROWS)])
    export = check_export(exported, checked, learner.says(checked))

    def score(made: bytes) -> FloatArray:
        return ScoringNetwork(made).run_padded([rows[row] for row in split.held_out]).scores

    chosen = choose_network(
        settings.precision, exported, learned.held_out_scores, split, quantize=quantize_recurrences, score=score
    )
    facts = {
        "frameworks": runtime.frameworks(),
        "training": {"lstm": learned.facts()},
        "words": len(tokens.words),
        "export": export,
        "precision": dict(chosen.facts),
    }
    return TrainedLstm(tokens, chosen, learning_curves(learned.history), facts)


def _network(runtime: Runtime, size: int, n_classes: int, settings: LstmSettings) -> Any:
    layers, ops = runtime.keras.layers, runtime.keras.ops
    tokens = runtime.keras.Input((None,), dtype="int32", name="tokens")
    words = layers.Embedding(size, settings.embedding_width, mask_zero=True, name="words")(tokens)
    words = layers.SpatialDropout1D(settings.dropout)(words)
    recurrence = layers.LSTM(settings.units, return_sequences=True)
    states = layers.Bidirectional(recurrence, name="states")(words)
    mask = ops.cast(ops.greater(tokens, 0), "float32")[..., None]
    mean = ops.sum(states * mask, axis=1) / ops.sum(mask, axis=1)
    largest = ops.max(states + (mask - 1.0) * float(LOW), axis=1)
    pooled = layers.Dropout(settings.dropout)(ops.concatenate([mean, largest], axis=1))
    features = layers.Dense(_FEATURES, activation="relu", name="features")(pooled)
    scores = layers.Dense(n_classes, name="scores")(layers.Dropout(settings.dropout)(features))
    return runtime.keras.Model(tokens, [scores, features])


def _set_word_vectors(network: Any, tokens: WordTokens, progress: Progress) -> None:
    """Initialise the word vectors with the principal components of the words' sentence embeddings.

    Words of similar meaning then start near each other, which a small dataset could not teach the network.
    """
    if not tokens.words:
        return
    encoded = encode_many(tokens.words, progress)
    encoded -= encoded.mean(axis=0)
    directions = np.linalg.eigh(encoded.T @ encoded)[1][:, ::-1]
    layer = network.get_layer("words")
    (vectors,) = layer.get_weights()
    known = encoded @ directions[:, : vectors.shape[1]]
    words = slice(len(vectors) - len(known), None)
    vectors[words, : known.shape[1]] = known * (_VECTOR_SCALE / max(float(known.std()), 1e-6))
    layer.set_weights([vectors])


def _weights(network: Any) -> LstmWeights:
    states = network.get_layer("states")
    return LstmWeights(
        embedding=network.get_layer("words").get_weights()[0],
        forward=Direction(*states.forward_layer.get_weights()),
        backward=Direction(*states.backward_layer.get_weights()),
        features=Dense(*network.get_layer("features").get_weights()),
        scores=Dense(*network.get_layer("scores").get_weights()),
    )
