from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from rayonnage_shared.ml.networks.epochs import EpochMetrics
from rayonnage_shared.ml.networks.keras.checkpoints import Best, Checkpoints, Last, fingerprint

MARK = fingerprint({"seed": 0}, np.arange(3))
HISTORY = (EpochMetrics(2.0, 0.1, 0.05, 2.1, 0.2, 0.1), EpochMetrics(1.5, 0.4, 0.3, None, None, None))


def last(scale: float = 1.0) -> Last:
    # More than ten, so that numbers in names would be in another order as text.
    variables = [np.full((2, 3), number * scale, dtype=np.float32) for number in range(12)]
    return Last(variables, [np.array(7, dtype=np.int64), np.ones(4, dtype=np.float32)], HISTORY)


def test_what_was_written_is_read_with_types_order_and_history(tmp_path: Path) -> None:
    Checkpoints(tmp_path, "head", MARK).write_last(last())

    found = Checkpoints(tmp_path, "head", MARK).read_last()

    assert found is not None
    assert found.history == HISTORY
    for kind in ("variables", "optimizer"):
        for array, right in zip(getattr(found, kind), getattr(last(), kind), strict=True):
            assert array.dtype == right.dtype
            np.testing.assert_array_equal(array, right)


def test_the_best_is_kept_beside_the_last(tmp_path: Path) -> None:
    checkpoints = Checkpoints(tmp_path, "head", MARK)
    scores = np.array([[-0.1, -2.4]], dtype=np.float32)
    checkpoints.write_best(Best(last().variables, scores))
    checkpoints.write_last(last(2.0))

    best = checkpoints.read_best()

    assert best is not None
    np.testing.assert_array_equal(best.variables[1], last().variables[1])
    np.testing.assert_array_equal(best.held_out_scores, scores)


def test_a_new_epoch_replaces_the_old_one_and_leaves_nothing_else(tmp_path: Path) -> None:
    checkpoints = Checkpoints(tmp_path, "head", MARK)
    checkpoints.write_last(last())
    checkpoints.write_last(last(2.0))

    found = checkpoints.read_last()

    assert found is not None
    assert found.variables[1][0, 0] == 2
    assert [path.name for path in tmp_path.iterdir()] == ["head.last.npz"]


@pytest.mark.parametrize("other", [fingerprint({"seed": 1}, np.arange(3)), fingerprint({"seed": 0}, np.arange(3) + 1)])
def test_a_checkpoint_of_another_training_is_not_gone_on_with(tmp_path: Path, other: str) -> None:
    Checkpoints(tmp_path, "head", MARK).write_last(last())

    assert Checkpoints(tmp_path, "head", other).read_last() is None


def test_phases_do_not_meet(tmp_path: Path) -> None:
    Checkpoints(tmp_path, "head", MARK).write_last(last())

    assert Checkpoints(tmp_path, "network", MARK).read_last() is None


@pytest.mark.parametrize("keep", [0, 1, 100, -1])
def test_a_file_that_the_disk_has_spoilt_counts_as_none(tmp_path: Path, keep: int) -> None:
    checkpoints = Checkpoints(tmp_path, "head", MARK)
    checkpoints.write_last(last())
    path = tmp_path / "head.last.npz"
    path.write_bytes(path.read_bytes()[:keep])

    assert checkpoints.read_last() is None


def test_without_a_folder_nothing_is_kept() -> None:
    checkpoints = Checkpoints(None, "head", MARK)
    checkpoints.write_last(last())

    assert checkpoints.read_last() is None
    assert checkpoints.read_best() is None
