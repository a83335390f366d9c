from __future__ import annotations

import numpy as np

from rayonnage_shared.ml.base.model import Labels
from rayonnage_shared.ml.linear.head_curve import head_learning_curve


def features_of(n: int, folds: int) -> tuple[np.ndarray, Labels]:
    """Features that tell three classes apart but for noise, and a fourth class that no row has."""
    random = np.random.default_rng(0)
    classes = np.arange(n) % 3
    inputs = random.normal(0, 1.5, (n, 12)).astype(np.float32)
    inputs[np.arange(n), classes] += 2
    return inputs, Labels(classes, np.arange(n) // 3 % folds, 4)


def test_more_photos_help_a_head_on_photos_that_it_did_not_see() -> None:
    (curve,) = head_learning_curve(*features_of(600, 5), penalty=0.1)

    assert (curve.metric, curve.axis, curve.x) == ("f1_weighted", "rows", (120.0, 240.0, 480.0))
    assert curve.held_out[0] < curve.held_out[-1]
    assert all(learned > other > 0.5 for learned, other in zip(curve.train, curve.held_out, strict=True))


def test_with_nothing_to_hold_out_there_is_no_curve() -> None:
    assert head_learning_curve(*features_of(60, 1), penalty=0.1) == ()
