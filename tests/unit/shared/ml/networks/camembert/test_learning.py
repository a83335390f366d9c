"""The order in which a CamemBERT sees its rows, and its learning rate; torch is not needed for these."""

from __future__ import annotations

import numpy as np
import pytest

from rayonnage_shared.ml.networks.camembert.learning import batches_of, learning_rate_factor


def test_each_row_comes_once_an_epoch_beside_rows_of_its_length() -> None:
    lengths = np.random.default_rng(0).integers(3, 100, 1000).tolist()

    batches = batches_of(lengths, 16, np.random.default_rng(1))

    assert sorted(np.concatenate(batches).tolist()) == list(range(1000))
    padding = sum(len(rows) * max(lengths[row] for row in rows) for rows in batches) / sum(lengths)
    assert padding < 1.1
    assert [len(rows) for rows in batches if len(rows) != 16] == [8]


def test_another_epoch_has_another_order_and_the_same_one_the_same() -> None:
    first, second, again = (batches_of([5] * 40, 8, np.random.default_rng([0, epoch])) for epoch in (0, 1, 0))
    assert [rows.tolist() for rows in first] != [rows.tolist() for rows in second]
    assert [rows.tolist() for rows in first] == [rows.tolist() for rows in again]


@pytest.mark.parametrize("warm_up", [0.0, 0.1, 0.5])
def test_the_learning_rate_rises_and_falls_to_nearly_nothing(warm_up: float) -> None:
    factors = [learning_rate_factor(step, 100, warm_up) for step in range(100)]
    top = int(np.argmax(factors))
    assert top == int(100 * warm_up)
    assert factors[top] == pytest.approx(1)
    assert np.all(np.diff(factors[: top + 1]) > 0)
    assert np.all(np.diff(factors[top:]) < 0)
    assert 0 < factors[-1] <= 0.03
