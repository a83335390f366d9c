"""Assign splits and folds, once per product, with near-duplicates together.

- New near-duplicate groups are drawn by class in an order given by their ids: 15 % of each class's rows are test rows.
- A new near-duplicate of a training product goes to training, one of a test product to test.
- A new product with near-duplicates on both sides is set "aside" and used for neither.
- A changed product (new photo, edited text) keeps its split unless it now has a near-duplicate on the other side; then
  it is set aside, so no test product has a near-duplicate in training. If the test product is the one that changed,
  the training product stays. Products that did not change never move.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from rayonnage_shared.ml.base.model import IntArray
from rayonnage_shared.ml.catalogue.near_duplicates import MAX_GROUP, Links, connected
from rayonnage_shared.ml.catalogue.products import ASIDE, N_FOLDS, TEST, TRAIN

TEST_SHARE = 0.15

Splits = NDArray[np.str_]
Mask = NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Placement:
    """`splits` (n,), `folds` (n,) 0 to 4, `groups` (n,) numbers of near-duplicate groups."""

    splits: Splits
    folds: IntArray
    groups: IntArray


def place(ids: Sequence[str], codes: IntArray, before: Placement, changed: Mask, links: Links) -> Placement:
    """Return the placement of all rows: those of `before` first, the rest of `ids` are new.

    `changed` (n,) marks rows with a new text or photo, including new rows; each link has at least one such row.
    """
    n, n_before = len(ids), len(before.splits)
    splits = np.concatenate([before.splits, np.full(n - n_before, "", dtype="<U5")]).astype("<U5")
    folds = np.concatenate([before.folds, np.zeros(n - n_before, dtype=np.int64)])
    groups = np.concatenate([before.groups, np.full(n - n_before, -1, dtype=np.int64)])
    component = _components(n, changed, links)
    placement = Placement(splits, folds, groups)
    _settle_linked(placement, component, changed, links)
    _settle_fresh(placement, ids, codes, component)
    return placement


def _components(n: int, changed: Mask, links: Links) -> IntArray:
    """Return the component of each changed row among changed rows; -1 for others. Long chains of weak links break."""
    inside = changed[links.left] & changed[links.right]
    root = connected(n, links.left[inside], links.right[inside])
    sizes = np.bincount(root, minlength=n)
    chained = sizes[root] > MAX_GROUP
    kept = inside & (links.strong | ~chained[links.left])
    root = connected(n, links.left[kept], links.right[kept])
    return np.where(changed, root, -1)


def _settle_linked(placement: Placement, component: IntArray, changed: Mask, links: Links) -> None:
    """Place the components that contain a placed product."""
    splits, folds, groups = placement.splits, placement.folds, placement.groups
    n = len(splits)
    outward = changed[links.left] != changed[links.right]
    came = np.where(changed[links.left], links.left, links.right)[outward]
    stored = np.where(changed[links.left], links.right, links.left)[outward]
    new = groups < 0

    def touched(rows: IntArray, anchors: IntArray, split: str) -> Mask:
        mask = np.zeros(n, dtype=np.bool_)
        mask[component[rows[splits[anchors] == split]]] = True
        return mask

    edited = np.flatnonzero(changed & ~new)
    train_stored, test_stored = touched(came, stored, TRAIN), touched(came, stored, TEST)
    train_edited, test_edited = touched(edited, edited, TRAIN), touched(edited, edited, TEST)
    any_train = train_stored | train_edited
    torn = test_stored & any_train
    own = np.where(changed, component, 0)
    anchor_rows = np.concatenate([stored, edited])
    anchor_components = component[np.concatenate([came, edited])]
    before = splits.copy()

    splits[changed & torn[own]] = ASIDE
    splits[changed & ~torn[own] & any_train[own] & (before == TEST)] = ASIDE
    splits[changed & new & ~torn[own] & any_train[own]] = TRAIN
    splits[changed & new & ~any_train[own] & (test_stored | test_edited)[own]] = TEST

    # A new row joins the oldest of its groups.
    wanted = np.where(any_train, TRAIN, TEST)
    deciding = before[anchor_rows] == wanted[anchor_components]
    oldest = np.full(n, np.iinfo(np.int64).max)
    np.minimum.at(oldest, anchor_components[deciding], groups[anchor_rows[deciding]])
    fold_of = dict(zip(groups[groups >= 0].tolist(), folds[groups >= 0].tolist(), strict=True))
    joining = np.flatnonzero(changed & new & ((splits == TRAIN) | (splits == TEST)))
    groups[joining] = oldest[component[joining]]
    folds[joining] = [fold_of[group] for group in groups[joining].tolist()]
    _regroup_aside(placement, component, before)


def _regroup_aside(placement: Placement, component: IntArray, before: Splits) -> None:
    """Give each component that was set aside its own group."""
    moved = np.flatnonzero((placement.splits == ASIDE) & (before != ASIDE))
    _, number = np.unique(component[moved], return_inverse=True)
    placement.groups[moved] = number + _next_group(placement.groups)
    placement.folds[moved] = number % N_FOLDS


def _settle_fresh(placement: Placement, ids: Sequence[str], codes: IntArray, component: IntArray) -> None:
    """Draw split and fold of components without a placed product; each counts for the class of its first row."""
    splits, folds, groups = placement.splits, placement.folds, placement.groups
    fresh = np.flatnonzero(splits == "")
    if not len(fresh):
        return
    draw = np.array([_draw(ids[row]) for row in fresh.tolist()], dtype=np.uint64)
    order = np.lexsort((draw, component[fresh]))
    heads = np.flatnonzero(np.diff(component[fresh[order]], prepend=-1))
    sizes = np.diff(np.concatenate([heads, [len(fresh)]]))
    head_codes, head_draws = codes[fresh[order[heads]]], draw[order[heads]]
    number_of_row = np.repeat(np.arange(len(heads)), sizes)

    tests = np.zeros(len(heads), dtype=np.bool_)
    group_folds = np.zeros(len(heads), dtype=np.int64)
    for code in np.unique(head_codes).tolist():
        mine = np.flatnonzero(head_codes == code)
        mine = mine[np.argsort(head_draws[mine], kind="stable")]
        placed = codes == code
        n_test = int((placed & (splits == TEST)).sum())
        total = int((placed & ((splits == TEST) | (splits == TRAIN))).sum() + sizes[mine].sum())
        tests[mine] = _draw_tests(sizes[mine], TEST_SHARE * total - n_test)
        in_training = placed & (splits == TRAIN)
        group_folds[mine] = _draw_folds(
            sizes[mine], tests[mine], np.bincount(folds[in_training], minlength=N_FOLDS), code
        )
    rows = fresh[order]
    splits[rows] = np.where(tests, TEST, TRAIN)[number_of_row]
    folds[rows] = group_folds[number_of_row]
    groups[rows] = number_of_row + _next_group(groups)


def _draw_tests(sizes: IntArray, wanted_rows: float) -> Mask:
    """Return the test groups, taken in order until `wanted_rows` are reached; larger groups are skipped."""
    fits = sizes <= max(wanted_rows, 1.0)
    taken_before_middle = np.cumsum(np.where(fits, sizes, 0)) - sizes / 2
    return fits & (taken_before_middle <= wanted_rows)


def _draw_folds(sizes: IntArray, tests: Mask, counts: IntArray, code: int) -> list[int]:
    """Return a fold for each group: the emptiest so far, large groups first. The fold of a test group is unused."""
    rows_in_fold = counts.tolist()
    folds = [0] * len(sizes)
    for i in np.argsort(-sizes, kind="stable").tolist():
        if tests[i]:
            continue
        # Classes start at different folds, so that remainders do not all fall into the first ones.
        folds[i] = min(range(N_FOLDS), key=lambda fold: (rows_in_fold[fold], (fold - code) % N_FOLDS))
        rows_in_fold[folds[i]] += int(sizes[i])
    return folds


def _draw(product_id: str) -> int:
    return int.from_bytes(hashlib.blake2b(product_id.encode(), digest_size=8, person=b"split").digest(), "big")


def _next_group(groups: IntArray) -> int:
    return int(groups.max(initial=-1)) + 1
