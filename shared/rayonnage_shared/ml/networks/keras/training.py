"""The training loop of the Keras families: epochs, early stopping, checkpoints, progress, learning curves.

One fold is held out. It decides when to stop and which epoch is best, and provides calibration and the held-out
predictions, so its metrics are slightly optimistic.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from rayonnage_shared.core.errors import RayonnageError
from rayonnage_shared.ml.base.model import FloatArray, IntArray
from rayonnage_shared.ml.base.progress import Progress
from rayonnage_shared.ml.metrics.classification import confusion_matrix, macro_f1
from rayonnage_shared.ml.networks.epochs import EpochMetrics, best_epoch, tempered_loss
from rayonnage_shared.ml.networks.held_out_split import Split
from rayonnage_shared.ml.networks.keras.checkpoints import Arrays, Best, Checkpoints, Last
from rayonnage_shared.ml.networks.keras.runtime import Runtime
from rayonnage_shared.ml.networks.scoring_network import Scored

Inputs = NDArray[Any]

_GRADIENT_NORM = 1.0  # gradient clipping, for exploding gradients of recurrent networks (Pascanu et al. 2013)
_SCORE_BATCH = 64


class TrainingDiverged(RayonnageError):
    status, code, title = 422, "training_diverged", "The training diverged"


class Examples(Protocol):
    """The training rows of a network."""

    def batches(self, rows: IntArray, size: int, random: np.random.Generator) -> list[IntArray]:
        """Return `rows` in a random order, in parts of about `size`."""
        ...

    def inputs(self, rows: IntArray, random: np.random.Generator | None) -> Inputs:
        """Return the network's input for `rows`, with augmentation if `random` is given."""
        ...


@dataclass(frozen=True, slots=True)
class Phase:
    """A training phase; `patience` is how many epochs may pass without a lower held-out loss."""

    name: str
    epochs: int
    patience: int
    batch_size: int
    learning_rate: float


@dataclass(frozen=True, slots=True)
class Learned:
    """The result of a phase; the network has the variables of `best_epoch`, where 0 is the start.

    `held_out_scores` (n_held_out, n_classes) are log-probabilities at that epoch.
    """

    history: tuple[EpochMetrics, ...]
    best_epoch: int
    held_out_scores: FloatArray
    resumed_after: int

    def facts(self) -> dict[str, int]:
        """Return the facts for the manifest."""
        return {"epochs": len(self.history), "best_epoch": self.best_epoch, "resumed_after_epoch": self.resumed_after}


@dataclass(frozen=True)
class Learner:
    """Trains a Keras network with outputs scores (n, n_classes) and features (n, width)."""

    runtime: Runtime
    network: Any
    examples: Examples
    split: Split
    seed: int

    def learn(
        self, phase: Phase, checkpoints: Checkpoints, progress: Progress, start_scores: FloatArray | None = None
    ) -> Learned:
        """Train from the last checkpoint, then restore the best epoch's variables.

        Given `start_scores`, the held-out scores before training, the start is kept unless an epoch is better. An
        interruption after any epoch does not change the result. Raises TrainingDiverged, and errors of `progress`.
        """
        optimizer = self.runtime.keras.optimizers.Adam(phase.learning_rate, global_clipnorm=_GRADIENT_NORM)
        optimizer.build(self.network.trainable_variables)
        best = Best(_values(self.network.variables), self._no_scores() if start_scores is None else start_scores)
        history: tuple[EpochMetrics, ...] = ()
        last = checkpoints.read_last()
        if last is not None:
            history = last.history
            _assign(self.network.variables, last.variables)
            _assign(optimizer.variables, last.optimizer)
        start_loss = self._loss(start_scores)
        best = (checkpoints.read_best() if best_epoch(history, start_loss) else None) or best
        step, resumed_after = self._step(optimizer), len(history)
        while not _finished(history, phase, start_loss):
            epoch = len(history) + 1
            told = self._epoch(step, phase, epoch, progress)
            scores = self.scores(self.split.held_out)
            history = (*history, self._metrics(*told, scores))
            if best_epoch(history, start_loss) == epoch:
                best = Best(_values(self.network.variables), scores)
                checkpoints.write_best(best)
            checkpoints.write_last(Last(_values(self.network.variables), _values(optimizer.variables), history))
        if history and best_epoch(history, start_loss) == 0 and start_scores is None:
            raise TrainingDiverged("The loss was not finite in any epoch; lower the learning rate.")
        _assign(self.network.variables, best.variables)
        return Learned(history, best_epoch(history, start_loss), best.held_out_scores, resumed_after)

    def says(self, inputs: Inputs) -> Scored:
        """Return log-probabilities and features for `inputs` of the current network."""
        scores, features = self._forward(inputs)
        return Scored(scores.numpy(), features.numpy())

    def scores(self, rows: IntArray) -> FloatArray:
        """Return log-probabilities (len(rows), n_classes) of the current network."""
        parts = [rows[start : start + _SCORE_BATCH] for start in range(0, len(rows), _SCORE_BATCH)]
        found = [self.says(inputs).scores for inputs in self._read_ahead(parts, None)]
        return np.concatenate([self._no_scores(), *found])

    @cached_property
    def _forward(self) -> Any:
        tensorflow = self.runtime.tensorflow

        @tensorflow.function(input_signature=[self._input])  # type: ignore[untyped-decorator]
        def forward(inputs: Any) -> Any:
            scores, features = self.network(inputs, training=False)
            return tensorflow.nn.log_softmax(scores), features

        return forward

    @property
    def _input(self) -> Any:
        """The network's input with any number of rows, so that a function is traced once."""
        taken = self.network.inputs[0]
        return self.runtime.tensorflow.TensorSpec(taken.shape, taken.dtype)

    def _epoch(self, step: Any, phase: Phase, epoch: int, progress: Progress) -> tuple[float, IntArray, IntArray]:
        """Return the mean log loss, and the true and predicted classes, in order."""
        random = np.random.default_rng([self.seed, epoch])
        batches = self.examples.batches(self.split.train, phase.batch_size, random)
        truth = [self.split.labels.classes[rows] for rows in batches]
        predicted, total = [], 0.0
        for number, inputs in enumerate(self._read_ahead(batches, random)):
            progress(
                (epoch - 1 + number / len(batches)) / phase.epochs,
                f"{phase.name}: epoch {epoch} of at most {phase.epochs}, batch {number + 1} of {len(batches)}",
            )
            losses, classes = step(inputs, truth[number], self.split.weights[batches[number]])
            total += float(losses.numpy().sum())
            predicted.append(classes.numpy())
        progress(epoch / phase.epochs, f"{phase.name}: epoch {epoch} of at most {phase.epochs} done")
        return total / len(self.split.train), np.concatenate(truth), np.concatenate(predicted)

    def _step(self, optimizer: Any) -> Any:
        tensorflow, keras = self.runtime.tensorflow, self.runtime.keras
        rows = [tensorflow.TensorSpec((None,), kind) for kind in ("int64", "float32")]

        @tensorflow.function(input_signature=[self._input, *rows])  # type: ignore[untyped-decorator]
        def step(inputs: Any, classes: Any, weights: Any) -> tuple[Any, Any]:
            with tensorflow.GradientTape() as tape:
                scores, _ = self.network(inputs, training=True)
                losses = keras.losses.sparse_categorical_crossentropy(classes, scores, from_logits=True)
                loss = tensorflow.reduce_mean(losses * weights)
            gradients = tape.gradient(loss, self.network.trainable_variables)
            optimizer.apply(gradients, self.network.trainable_variables)
            return losses, tensorflow.argmax(scores, axis=1)

        return step

    def _read_ahead(self, batches: Sequence[IntArray], random: np.random.Generator | None) -> Iterator[Inputs]:
        """Yield the inputs of each batch; a thread prefetches the next one."""
        with ThreadPoolExecutor(1, thread_name_prefix="read-ahead") as pool:
            following = [pool.submit(self.examples.inputs, batches[0], random)] if batches else []
            for batch in [*batches[1:], None]:
                if not following:
                    return
                inputs = following.pop().result()
                if batch is not None:
                    following.append(pool.submit(self.examples.inputs, batch, random))
                yield inputs

    def _metrics(self, loss: float, truth: IntArray, predicted: IntArray, scores: FloatArray) -> EpochMetrics:
        rates = self._rates(truth, predicted)
        if not len(scores):
            return EpochMetrics(loss, *rates, None, None, None)
        expected = self.split.labels.classes[self.split.held_out]
        known = np.isin(expected, self.split.present)
        plain = float(-scores[known, expected[known]].mean()) if known.any() else 0.0
        return EpochMetrics(loss, *rates, plain, *self._rates(expected, scores.argmax(axis=1)), self._loss(scores))

    def _rates(self, truth: IntArray, predicted: IntArray) -> tuple[float, float]:
        confusion = confusion_matrix(truth, predicted, self.split.labels.n_classes)
        return float(np.mean(truth == predicted)), macro_f1(confusion)

    def _loss(self, scores: FloatArray | None) -> float | None:
        """Return the metric that compares epochs, over the held-out rows of known classes."""
        if scores is None or not len(scores):
            return None
        truth = self.split.labels.classes[self.split.held_out]
        known = np.isin(truth, self.split.present)
        return tempered_loss(scores[known], truth[known]) if known.any() else 0.0

    def _no_scores(self) -> FloatArray:
        return np.empty((0, self.split.labels.n_classes), dtype=np.float32)


def _finished(history: Sequence[EpochMetrics], phase: Phase, start_loss: float | None) -> bool:
    waited = len(history) - best_epoch(history, start_loss)
    return len(history) >= phase.epochs or waited >= phase.patience


def _values(variables: Sequence[Any]) -> Arrays:
    return [variable.numpy() for variable in variables]


def _assign(variables: Sequence[Any], values: Arrays) -> None:
    for variable, value in zip(variables, values, strict=True):
        variable.assign(value)
