from __future__ import annotations

import numpy as np
import pytest

from rayonnage_shared.ml.base.model import FloatArray, IntArray
from rayonnage_shared.ml.fusion import correcting_head
from rayonnage_shared.ml.fusion.correcting_head import Standard, fit_path

N_CLASSES = 3


def rows(n: int = 300, width: int = 12) -> tuple[FloatArray, IntArray]:
    """Return features that tell the class along two of their directions, and the classes."""
    rng = np.random.default_rng(0)
    classes = rng.integers(0, N_CLASSES, n)
    hidden = rng.normal(size=(n, 3)) * [3, 2, 0.2]
    hidden[:, 0] += 2 * classes
    return (hidden @ rng.normal(size=(3, width)) + 5).astype(np.float32), classes


def nothing(n: int) -> FloatArray:
    return np.zeros((n, N_CLASSES), dtype=np.float32)


@pytest.mark.parametrize("most_axes", [12, 4])
def test_an_unfolded_head_scores_raw_inputs_as_the_head_does_the_table(
    monkeypatch: pytest.MonkeyPatch, most_axes: int
) -> None:
    monkeypatch.setattr(correcting_head, "MOST_AXES", most_axes)
    features, classes = rows()
    standard = Standard.of([features[:, :5], features[:, 5:]], [1.0, 0.3])
    assert standard.table.shape == (300, most_axes)

    (head,) = fit_path(standard.table, classes, nothing(300), [0.01], np.ones(300, dtype=bool))

    raw = standard.unfolded(head)
    scores = features @ raw.weights + raw.intercept
    np.testing.assert_allclose(scores, standard.table @ head.weights + head.intercept, atol=1e-3)
    assert (scores.argmax(axis=1) == classes).mean() > 0.5  # 0.33 by chance


def test_columns_are_centred_and_their_deviation_is_their_blocks_scale() -> None:
    features, _ = rows()

    table = Standard.of([features[:, :5] * 1000, features[:, 5:]], [1.0, 0.3]).table

    np.testing.assert_allclose(table.mean(axis=0), 0, atol=1e-4)
    np.testing.assert_allclose(table.std(axis=0), [1.0] * 5 + [0.3] * 7, rtol=0.01)


def test_a_strong_penalty_leaves_the_scores_that_were_there() -> None:
    features, classes = rows()
    standard = Standard.of([features], [1.0])

    strong, weak = fit_path(standard.table, classes, nothing(300), [1000.0, 0.01], np.ones(300, dtype=bool))

    assert np.abs(strong.weights).max() < 0.01 < np.abs(weak.weights).max()


def test_rows_that_do_not_count_have_no_say() -> None:
    features, classes = rows()
    counted = np.arange(300) < 200
    standard = Standard.of([features], [1.0])
    otherwise = np.where(counted, classes, 0)

    one, other = (next(fit_path(standard.table, truth, nothing(300), [0.1], counted)) for truth in (classes, otherwise))

    np.testing.assert_array_equal(one.weights, other.weights)
