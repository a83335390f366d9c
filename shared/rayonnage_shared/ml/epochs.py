"""How a network's training goes, epoch by epoch: its figures, which epoch was best, and the curves that show it."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from rayonnage_shared.ml.families.base import Curve


@dataclass(frozen=True, slots=True)
class EpochFigures:
    """One epoch: mean log loss, accuracy and macro F1 of the training rows while it ran, and of the held-out rows.

    Held-out figures are None where nothing is held out.
    """

    loss: float
    accuracy: float
    f1_macro: float
    held_out_loss: float | None
    held_out_accuracy: float | None
    held_out_f1_macro: float | None


def best_epoch(history: Sequence[EpochFigures], start_loss: float | None) -> int:
    """Return the first epoch with the least held-out loss, 0 for the start; the last one where nothing is held out."""
    best, least = 0, math.inf if start_loss is None else start_loss
    for epoch, figures in enumerate(history, 1):
        loss = -math.inf if figures.held_out_loss is None else figures.held_out_loss
        if loss < least or figures.held_out_loss is None:
            best, least = epoch, loss
    return best


def learning_curves(history: Sequence[EpochFigures]) -> tuple[Curve, ...]:
    """Return loss, accuracy and macro F1 over the epochs; nothing where nothing was held out.

    Training figures are those of each epoch while it ran, with dropout, and so may lie below the held-out ones.
    """
    if not history or history[0].held_out_loss is None:
        return ()
    epochs = tuple(float(number) for number in range(1, len(history) + 1))
    return tuple(
        Curve(
            figure,
            "epochs",
            epochs,
            tuple(getattr(one, figure) for one in history),
            tuple(getattr(one, f"held_out_{figure}") for one in history),
        )
        for figure in ("loss", "accuracy", "f1_macro")
    )
