"""Splits, folds and groups."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from rayonnage_shared.ml.catalogue.near_duplicates import Links
from rayonnage_shared.ml.catalogue.splits import Placement, place

NOBODY = Placement(np.array([], dtype="<U5"), np.zeros(0, dtype=np.int64), np.zeros(0, dtype=np.int64))


def links(*pairs: tuple[int, int]) -> Links:
    left = np.array([pair[0] for pair in pairs], dtype=np.int64)
    right = np.array([pair[1] for pair in pairs], dtype=np.int64)
    return Links(left, right, np.ones(len(pairs), dtype=np.bool_))


def grow(before: Placement, codes: Sequence[int], *pairs: tuple[int, int], edited: Sequence[int] = ()) -> Placement:
    n = len(codes)
    changed = np.arange(n) >= len(before.splits)
    changed[list(edited)] = True
    return place([f"p{i}" for i in range(n)], np.array(codes), before, changed, links(*pairs))


def placed(*splits: str) -> Placement:
    n = len(splits)
    return Placement(np.array(splits, dtype="<U5"), np.arange(n) % 5, np.arange(n, dtype=np.int64))


def test_fifteen_percent_of_each_class_test_and_folds_are_even() -> None:
    codes = [10] * 1000 + [40] * 200 + [60] * 20
    placement = grow(NOBODY, codes)
    tests = placement.splits == "test"
    assert [int(tests[np.array(codes) == code].sum()) for code in (10, 40, 60)] == [150, 30, 3]
    folds = np.bincount(placement.folds[~tests & (np.array(codes) == 10)])
    assert folds.max() - folds.min() <= 1


def test_twins_share_split_fold_and_group() -> None:
    pairs = [(i, i + 1) for i in range(0, 400, 2)]
    placement = grow(NOBODY, [10] * 400, *pairs)
    for values in (placement.splits, placement.folds, placement.groups):
        assert (values[0::2] == values[1::2]).all()
    assert 40 <= int((placement.splits == "test").sum()) <= 80


def test_a_new_twin_goes_where_its_twin_is() -> None:
    after = grow(placed("train", "test"), [10] * 4, (2, 0), (3, 1))
    assert after.splits.tolist() == ["train", "test", "train", "test"]
    assert after.groups.tolist() == [0, 1, 0, 1]
    assert after.folds.tolist() == [0, 1, 0, 1]


def test_a_chain_of_new_twins_follows_the_one_that_is_linked() -> None:
    after = grow(placed("train", "test"), [10] * 4, (2, 3), (3, 1))
    assert after.splits.tolist() == ["train", "test", "test", "test"]


def test_a_bridge_between_both_sides_is_set_aside() -> None:
    after = grow(placed("train", "test"), [10] * 4, (2, 0), (3, 1), (2, 3))
    assert after.splits.tolist() == ["train", "test", "aside", "aside"]


def test_products_that_did_not_change_never_move() -> None:
    before = grow(NOBODY, [10] * 300)
    after = grow(before, [10] * 600, *[(i, i - 300) for i in range(300, 360)])
    assert (after.splits[:300] == before.splits).all()
    assert (after.folds[:300] == before.folds).all()
    assert (after.groups[:300] == before.groups).all()


def test_a_changed_test_product_with_a_twin_in_training_goes_aside() -> None:
    after = grow(placed("train", "test", "test"), [10] * 3, (1, 0), edited=[1])
    assert after.splits.tolist() == ["train", "aside", "test"]


def test_a_changed_training_product_with_a_twin_in_test_goes_aside() -> None:
    after = grow(placed("train", "test", "train"), [10] * 3, (0, 1), edited=[0])
    assert after.splits.tolist() == ["aside", "test", "train"]


def test_a_changed_product_without_a_twin_on_the_other_side_stays() -> None:
    after = grow(placed("train", "test"), [10] * 2, edited=[0, 1])
    assert after.splits.tolist() == ["train", "test"]


def test_the_order_of_rows_does_not_matter() -> None:
    codes = np.array([10] * 200)
    ids = [f"p{i}" for i in range(200)]
    changed = np.ones(200, dtype=np.bool_)
    one = place(ids, codes, NOBODY, changed, links())
    other = place(ids[::-1], codes, NOBODY, changed, links())
    assert (one.splits == other.splits[::-1]).all()


def test_long_chains_of_weak_links_are_broken() -> None:
    n = 600
    chain = Links(np.arange(n - 1), np.arange(1, n), np.zeros(n - 1, dtype=np.bool_))
    placement = place([f"p{i}" for i in range(n)], np.full(n, 10), NOBODY, np.ones(n, dtype=np.bool_), chain)
    assert len(set(placement.groups.tolist())) == n


def test_a_class_of_one_product_trains() -> None:
    assert grow(NOBODY, [10]).splits.tolist() == ["train"]
