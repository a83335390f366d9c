from __future__ import annotations

import numpy as np

from rayonnage_shared.ml.base.model import Labels
from rayonnage_shared.ml.metrics.learning_curves import Point, curve_of_rows, row_subsets, some_rows


def test_parts_are_a_quarter_and_a_half_spread_over_the_rows() -> None:
    rows = np.arange(1000, 2000)

    quarter, half = row_subsets(rows)

    assert (len(quarter), len(half)) == (250, 500)
    assert (quarter[0], quarter[-1]) == (1000, 1999)
    assert set(half) <= set(rows)


def test_of_many_rows_the_parts_are_bounded() -> None:
    many = np.arange(100_000)

    assert [len(part) for part in row_subsets(many)] == [2000, 4000]
    assert len(some_rows(many)) == 4000
    assert len(np.unique(some_rows(many))) == 4000


def test_too_few_rows_have_no_parts() -> None:
    assert row_subsets(np.arange(30)) == []
    assert some_rows(np.arange(30)).tolist() == list(range(30))


def test_a_point_has_the_weighted_f1_of_learned_and_of_held_out_rows() -> None:
    labels = Labels(np.array([0, 1, 0, 1]), np.zeros(4, dtype=np.int64), 2)
    right, wrong = np.eye(2, dtype=np.float32), np.eye(2, dtype=np.float32)[::-1]

    curve = curve_of_rows([Point(2, np.array([0, 1]), right, wrong)], np.array([2, 3]), labels)

    assert (curve.metric, curve.axis, curve.x, curve.train, curve.held_out) == (
        "f1_weighted",
        "rows",
        (2.0,),
        (1.0,),
        (0.0,),
    )
