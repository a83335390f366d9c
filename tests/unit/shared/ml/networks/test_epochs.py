from __future__ import annotations

import math
from dataclasses import replace

import numpy as np
import pytest

from rayonnage_shared.ml.networks.epochs import EpochMetrics, best_epoch, learning_curves, tempered_loss


def history(*losses: float | None) -> list[EpochMetrics]:
    return [EpochMetrics(1.0, 0.5, 0.25, loss, 0.75, 0.125) for loss in losses]


@pytest.mark.parametrize(
    ("losses", "start", "best"),
    [
        ((3.0, 1.0, 2.0), None, 2),
        ((3.0, 1.0, 1.0), None, 2),  # the first of equals
        ((3.0, 1.5, 2.0), 1.2, 0),  # what it began with
        ((3.0, 1.0, 2.0), 1.2, 2),
        ((math.nan, math.nan), None, 0),
        ((math.nan, 2.0), None, 2),
        ((), None, 0),
        ((None, None, None), None, 3),  # nothing is held out: the last
    ],
)
def test_the_best_epoch_has_the_least_held_out_loss(
    losses: tuple[float | None, ...], start: float | None, best: int
) -> None:
    assert best_epoch(history(*losses), start) == best


def test_the_tempered_loss_decides_where_it_is_known() -> None:
    epochs = [
        replace(one, held_out_tempered_loss=loss) for one, loss in zip(history(1.0, 2.0), (0.9, 0.8), strict=True)
    ]

    assert best_epoch(epochs, None) == 2


def test_a_network_that_is_only_too_sure_of_itself_has_the_same_tempered_loss() -> None:
    random = np.random.default_rng(0)
    truth = random.integers(0, 3, 500)
    scores = np.log(random.dirichlet((1, 1, 1), 500)).astype(np.float32)
    scores[np.arange(500), truth] += 1.5

    plain, too_sure = tempered_loss(scores, truth), tempered_loss(scores * 2.5, truth)

    assert too_sure == pytest.approx(plain, rel=0.01)
    assert plain < np.log(3)


def test_curves_show_loss_accuracy_and_f1_of_each_epoch() -> None:
    loss, accuracy, f1 = learning_curves(history(3.0, 2.0))

    assert [one.metric for one in (loss, accuracy, f1)] == ["loss", "accuracy", "f1_macro"]
    assert (loss.x, loss.train, loss.held_out) == ((1.0, 2.0), (1.0, 1.0), (3.0, 2.0))
    assert (accuracy.train, accuracy.held_out) == ((0.5, 0.5), (0.75, 0.75))
    assert (f1.train, f1.held_out) == ((0.25, 0.25), (0.125, 0.125))


def test_there_are_no_curves_where_nothing_was_held_out() -> None:
    assert learning_curves(history(None)) == ()
    assert learning_curves([]) == ()
