from __future__ import annotations

import numpy as np

from rayonnage_shared.ml.base.model import IntArray, Labels
from rayonnage_shared.ml.fusion.cross_fitting import parts_of


def labels(folds: list[int], groups: list[int] | None = None) -> Labels:
    found: IntArray | None = None if groups is None else np.array(groups)
    return Labels(np.zeros(len(folds), dtype=np.int64), np.array(folds), 2, found)


def test_folds_are_the_parts_where_there_are_two() -> None:
    assert parts_of(labels([3, 0, 3])).tolist() == [3, 0, 3]


def test_a_single_fold_is_dealt_out_by_groups_of_twins() -> None:
    parts = parts_of(labels([2] * 8, [9, 4, 9, 1, 40, 4, 50, 60]))

    assert parts[0] == parts[2]
    assert parts[1] == parts[5]
    assert len(np.unique(parts)) == 5


def test_without_groups_each_row_stands_for_itself() -> None:
    assert parts_of(labels([2] * 6)).tolist() == [0, 1, 2, 3, 4, 0]


def test_labels_are_taken_with_their_folds_and_groups() -> None:
    taken = labels([0, 1, 2], [7, 8, 9]).take(np.array([True, False, True]))

    assert taken.folds.tolist() == [0, 2]
    assert taken.groups is not None
    assert taken.groups.tolist() == [7, 9]
    assert len(taken.classes) == 2
