"""The training loop of a CamemBERT: epochs, early stopping, checkpoints. Runs in torch's environment.

The held-out fold decides when to stop and which epoch is best, so its metrics are slightly optimistic.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np

from rayonnage_shared.core.files import write_atomically
from rayonnage_shared.ml.base.model import FloatArray, IntArray
from rayonnage_shared.ml.base.progress import Progress
from rayonnage_shared.ml.metrics.classification import confusion_matrix, macro_f1
from rayonnage_shared.ml.networks.camembert.export import scores_and_features
from rayonnage_shared.ml.networks.epochs import EpochMetrics, best_epoch, tempered_loss
from rayonnage_shared.ml.networks.subwords import padded

_MAX_GRADIENT_NORM = 1.0  # as in BERT's and RoBERTa's fine-tuning
_SORTED_TOGETHER = 50
"""Batches whose rows are sorted by length together: little padding, and the order stays nearly random."""
_SCORING_BATCH = 64


@dataclass(frozen=True, slots=True)
class Recipe:
    """Training parameters, named as the family's."""

    epochs: int
    batch: int
    learning_rate: float
    warm_up: float
    weight_decay: float
    patience: int


@dataclass(frozen=True, slots=True)
class Examples:
    """Word pieces of n products, their classes (n,), and the weight of each in the loss (n,)."""

    ids: Sequence[Sequence[int]]
    classes: IntArray
    weights: FloatArray


class Learner:
    """Trains a CamembertForSequenceClassification; `epochs` has the metrics of each so far."""

    def __init__(
        self,
        model: Any,
        recipe: Recipe,
        train: Examples,
        held_out: Examples,
        *,
        seed: int,
        checkpoint: Path,
        origin: str,
    ) -> None:
        """Resume from `checkpoint` if there is one; `origin` names the initial weights of `model`."""
        import torch

        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self.model = model.to(self.device)
        self.epochs: list[EpochMetrics] = []
        self._recipe = recipe
        self._train = train
        self._held_out = held_out
        self._seed = seed
        self._checkpoint = checkpoint
        self._origin = origin
        decayed = [weight for weight in model.parameters() if weight.ndim > 1]
        plain = [weight for weight in model.parameters() if weight.ndim <= 1]  # biases and layer norms
        groups = [{"params": decayed, "weight_decay": recipe.weight_decay}, {"params": plain, "weight_decay": 0.0}]
        self._optimizer = torch.optim.AdamW(groups, lr=recipe.learning_rate)
        self._resume()
        self.resumed_after = len(self.epochs)

    def learn(self, progress: Progress) -> int:
        """Train with early stopping; return the number of the best epoch, from 1, and restore its weights.

        Without held-out rows the last epoch is the best. An interruption after any epoch does not change the result.
        """
        while len(self.epochs) < self._recipe.epochs and not self._waited_enough():
            self.epochs.append(self._epoch(progress))
            self._keep()
        best = best_epoch(self.epochs, None)
        self.model.load_state_dict(self._read(self._weights_of(best)))
        return best

    def scores(self, ids: Sequence[Sequence[int]]) -> tuple[FloatArray, FloatArray]:
        """Return log-probabilities (n, n_classes) and features (n, width) float32."""
        import torch

        self.model.eval()
        config = self.model.config
        scores = np.empty((len(ids), config.num_labels), dtype=np.float32)
        features = np.empty((len(ids), config.hidden_size), dtype=np.float32)
        order = np.argsort([len(one) for one in ids], kind="stable")
        with torch.inference_mode():
            for start in range(0, len(ids), _SCORING_BATCH):
                rows = order[start : start + _SCORING_BATCH]
                outputs = scores_and_features(self.model, self._padded([ids[row] for row in rows]))
                scores[rows], features[rows] = (output.cpu().numpy() for output in outputs)
        return scores, features

    def _epoch(self, progress: Progress) -> EpochMetrics:
        import torch

        recipe, train, number = self._recipe, self._train, len(self.epochs)
        random = np.random.default_rng([self._seed, number])
        # Seeded by the epoch, so that dropout is the same in a resumed training.
        torch.manual_seed(int(random.integers(2**62)))
        batches = batches_of([len(one) for one in train.ids], recipe.batch, random)
        predicted = np.empty_like(train.classes)
        total, seen = 0.0, 0
        self.model.train()
        for done, rows in enumerate(batches):
            step, steps = number * len(batches) + done, recipe.epochs * len(batches)
            for group in self._optimizer.param_groups:
                group["lr"] = recipe.learning_rate * learning_rate_factor(step, steps, recipe.warm_up)
            losses, predicted[rows] = self._step(rows)
            total, seen = total + losses, seen + len(rows)
            share = (step + 1) / steps
            progress(share, f"epoch {number + 1} of at most {recipe.epochs}: loss {total / seen:.3f}")
        held_out = self._judge()
        accuracy, f1 = self._rates(train.classes, predicted)
        return EpochMetrics(total / seen, accuracy, f1, *held_out)

    def _step(self, rows: IntArray) -> tuple[float, IntArray]:
        """Train on one batch; return the sum of its losses and the predicted classes."""
        import torch

        ids = self._padded([self._train.ids[row] for row in rows])
        truth = torch.as_tensor(self._train.classes[rows], device=self.device)
        weights = torch.as_tensor(self._train.weights[rows], device=self.device)
        mask = (ids != self.model.config.pad_token_id).long()
        logits = self.model(input_ids=ids, attention_mask=mask).logits
        losses = torch.nn.functional.cross_entropy(logits, truth, reduction="none")
        (losses * weights).mean().backward()
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), _MAX_GRADIENT_NORM)
        self._optimizer.step()
        self._optimizer.zero_grad()
        return float(losses.detach().sum()), logits.argmax(dim=1).cpu().numpy()

    def _judge(self) -> tuple[float | None, float | None, float | None, float | None]:
        """Return log loss, accuracy, macro F1 and tempered log loss of the held-out rows.

        Losses cover rows of classes that have training rows.
        """
        classes = self._held_out.classes
        if not len(classes):
            return None, None, None, None
        scores, _ = self.scores(self._held_out.ids)
        known = np.isin(classes, self._train.classes)
        plain = tempered = 0.0
        if known.any():
            plain = float(-scores[known, classes[known]].mean())
            tempered = tempered_loss(scores[known], classes[known])
        return plain, *self._rates(classes, scores.argmax(axis=1)), tempered

    def _rates(self, truth: IntArray, predicted: IntArray) -> tuple[float, float]:
        confusion = confusion_matrix(truth, predicted, self.model.config.num_labels)
        return float((truth == predicted).mean()), macro_f1(confusion)

    def _padded(self, ids: Sequence[Sequence[int]]) -> Any:
        import torch

        return torch.as_tensor(padded(ids, self.model.config.pad_token_id), device=self.device)

    def _waited_enough(self) -> bool:
        return bool(self.epochs) and len(self.epochs) - best_epoch(self.epochs, None) >= self._recipe.patience

    def _keep(self) -> None:
        """Write the checkpoint of a later run: the best epoch's weights first, then the checkpoint that refers to them,
        and only then delete older ones."""
        best = self._weights_of(best_epoch(self.epochs, None))
        if best == self._weights_of(len(self.epochs)):
            self._write(best, self.model.state_dict())
        state = {
            "origin": self._origin,
            "epochs": [asdict(epoch) for epoch in self.epochs],
            "model": self.model.state_dict(),
            "optimizer": self._optimizer.state_dict(),
        }
        self._write(self._checkpoint, state)
        for other in self._checkpoint.parent.glob("epoch-*.pt"):
            if other != best:
                other.unlink()

    def _resume(self) -> None:
        if not self._checkpoint.exists():
            return
        state = self._read(self._checkpoint)
        if state["origin"] != self._origin:  # the weights under this name were replaced
            return
        self.epochs = [EpochMetrics(**epoch) for epoch in state["epochs"]]
        self.model.load_state_dict(state["model"])
        self._optimizer.load_state_dict(state["optimizer"])

    def _weights_of(self, epoch: int) -> Path:
        return self._checkpoint.with_name(f"epoch-{epoch}.pt")

    def _write(self, path: Path, state: Mapping[str, Any]) -> None:
        import torch

        content = BytesIO()
        torch.save(dict(state), content)
        write_atomically(path, content.getbuffer())

    def _read(self, path: Path) -> dict[str, Any]:
        import torch

        state: dict[str, Any] = torch.load(path, map_location=self.device, weights_only=True)
        return state


def batches_of(lengths: Sequence[int], size: int, random: np.random.Generator) -> list[IntArray]:
    """Return all rows in random order, in parts of at most `size` whose rows are about equally long."""
    order, known = random.permutation(len(lengths)), np.asarray(lengths)
    found: list[IntArray] = []
    for start in range(0, len(order), size * _SORTED_TOGETHER):
        some = order[start : start + size * _SORTED_TOGETHER]
        some = some[np.argsort(known[some], kind="stable")]
        found += [some[first : first + size] for first in range(0, len(some), size)]
    return [found[position] for position in random.permutation(len(found))]


def learning_rate_factor(step: int, steps: int, warm_up: float) -> float:
    """Return the learning rate factor: linear warm-up over a fraction of all steps, then linear decay to 0."""
    rising = warm_up * steps
    return (step + 1) / (rising + 1) if step < rising else (steps - step) / (steps - rising)
