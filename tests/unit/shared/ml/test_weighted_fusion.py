from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rayonnage_shared.ml.families.base import FloatArray, IntArray, Labels, Opinion
from rayonnage_shared.ml.families.fusion.weighted import WeightedFusion

N_CLASSES = 5


def opinion(classes: IntArray, sharpness: float, seed: int) -> FloatArray:
    """Return calibrated-looking probabilities that favour the right class by `sharpness`."""
    scores = np.random.default_rng(seed).normal(size=(len(classes), N_CLASSES))
    scores[np.arange(len(classes)), classes] += sharpness
    odds = np.exp(scores * sharpness)
    return np.asarray(odds / odds.sum(axis=1, keepdims=True), dtype=np.float32)


def said(probabilities: FloatArray) -> Opinion:
    return Opinion(probabilities, np.empty((len(probabilities), 0), dtype=np.float32))


def fit(text: FloatArray, image: FloatArray, classes: IntArray) -> WeightedFusion:
    labels = Labels(classes, np.arange(len(classes)) % 5, N_CLASSES)
    return WeightedFusion.fit(said(text), said(image), labels).model


def classes_of(n: int) -> IntArray:
    return np.random.default_rng(0).integers(0, N_CLASSES, n)


def log_loss(probabilities: FloatArray, classes: IntArray) -> float:
    return float(-np.log(probabilities[np.arange(len(classes)), classes] + 1e-9).mean())


def test_both_together_are_better_than_either_alone_on_new_rows() -> None:
    classes = classes_of(2000)
    text, image = opinion(classes, 1.6, 1), opinion(classes, 1.0, 2)

    fusion = fit(text[:1000], image[:1000], classes[:1000])

    both = fusion.combine(said(text), said(image))[1000:]
    assert log_loss(both, classes[1000:]) < log_loss(text[1000:], classes[1000:])
    assert (both.argmax(axis=1) == classes[1000:]).mean() > (text[1000:].argmax(axis=1) == classes[1000:]).mean()
    assert fusion.rows == 1000


def test_an_opinion_that_is_noise_gets_little_weight() -> None:
    classes = classes_of(2000)

    fusion = fit(opinion(classes, 1.5, 1), opinion(classes_of(2000)[::-1].copy(), 1.5, 2), classes)

    assert fusion.image_weight < 0.1 < fusion.text_weight


@pytest.mark.parametrize("folds", [5, 1])
def test_held_out_rows_were_not_seen_by_the_fusion_that_judges_them(folds: int) -> None:
    classes, rng = classes_of(300), np.random.default_rng(4)
    text, image = opinion(classes, 1.5, 1), opinion(classes, 1.0, 2)
    groups = np.arange(300) // 2
    labels = Labels(classes, groups % folds, N_CLASSES, groups)
    held_out = WeightedFusion.fit(said(text), said(image), labels).held_out

    twins = groups == 7
    changed = np.where(twins, rng.integers(0, N_CLASSES, 300), classes)
    otherwise = WeightedFusion.fit(said(text), said(image), replace(labels, classes=changed)).held_out

    np.testing.assert_array_equal(otherwise[twins], held_out[twins])
    assert (otherwise[~twins] != held_out[~twins]).any()


def test_noise_does_not_look_useful_on_held_out_rows() -> None:
    classes = classes_of(60)
    noise = [opinion(np.random.default_rng(seed).integers(0, N_CLASSES, 60), 1.0, seed) for seed in (1, 2)]

    fitted = WeightedFusion.fit(said(noise[0]), said(noise[1]), Labels(classes, np.arange(60) % 5, N_CLASSES))

    in_sample = fitted.model.combine(said(noise[0]), said(noise[1]))
    assert log_loss(fitted.held_out, classes) > log_loss(in_sample, classes)


def test_rows_without_both_opinions_are_left_out() -> None:
    classes = classes_of(300)
    text, image = opinion(classes, 1.5, 1), opinion(classes, 1.0, 2)
    holes = image.copy()
    holes[200:] = np.nan

    fusion, same = fit(text, holes, classes), fit(text[:200], image[:200], classes[:200])

    assert fusion.rows == 200
    assert fusion.text_weight == pytest.approx(same.text_weight)


@pytest.mark.parametrize("n", [0, 1, 3])
def test_with_few_rows_the_usual_weights_stand(n: int) -> None:
    classes = classes_of(n)

    fusion = fit(opinion(classes, 1.5, 1), opinion(classes, 1.0, 2), classes)

    assert fusion.text_weight == pytest.approx(1.0, abs=0.2)
    assert fusion.image_weight == pytest.approx(0.5, abs=0.2)
    assert np.abs(fusion.bias).max() < 0.5


def test_one_opinion_alone_is_returned_unchanged() -> None:
    classes = classes_of(50)
    text, image = opinion(classes, 1.5, 1), opinion(classes, 1.0, 2)
    fusion = fit(text, image, classes)

    np.testing.assert_array_equal(fusion.combine(said(text), None), text)
    np.testing.assert_array_equal(fusion.combine(None, said(image)), image)


def test_no_opinion_at_all_is_an_error_of_the_caller() -> None:
    with pytest.raises(ValueError, match="neither"):
        WeightedFusion(1, 1, np.zeros(2, dtype=np.float32), 0).combine(None, None)


def test_a_class_that_neither_knows_stays_impossible() -> None:
    text, image = (np.array([row], dtype=np.float32) for row in ([0.5, 0.5, 0.0], [0.2, 0.8, 0.0]))

    (row,) = WeightedFusion(1, 0.5, np.zeros(3, dtype=np.float32), 0).combine(said(text), said(image))

    assert row[2] == 0
    assert row[1] > row[0] > 0


def test_opinions_that_exclude_each_other_still_give_probabilities() -> None:
    text, image = (np.array([row], dtype=np.float32) for row in ([1.0, 0.0], [0.0, 1.0]))

    (row,) = WeightedFusion(1, 1, np.zeros(2, dtype=np.float32), 0).combine(said(text), said(image))

    np.testing.assert_allclose(row, [0.5, 0.5])


@settings(max_examples=100, deadline=None)
@given(st.lists(st.lists(st.floats(0, 1, width=32), min_size=6, max_size=6), min_size=1, max_size=4))
def test_rows_always_sum_to_1(rows: list[list[float]]) -> None:
    tables = np.array(rows, dtype=np.float32).reshape(len(rows), 2, 3) ** 20
    totals = tables.sum(axis=2, keepdims=True)
    tables = np.where(totals > 0, tables / np.where(totals > 0, totals, 1), np.float32(1 / 3)).astype(np.float32)

    both = WeightedFusion(1.2, 0.5, np.array([0.3, 0, -2], dtype=np.float32), 0).combine(
        said(tables[:, 0]), said(tables[:, 1])
    )

    assert both.dtype == np.float32
    np.testing.assert_allclose(both.sum(axis=1), 1, rtol=1e-5)


def test_saved_weights_come_back(tmp_path: Path) -> None:
    classes = classes_of(100)
    text, image = opinion(classes, 1.5, 1), opinion(classes, 1.0, 2)
    fusion = fit(text, image, classes)

    fusion.save(tmp_path)

    np.testing.assert_array_equal(
        WeightedFusion.load(tmp_path).combine(said(text), said(image)), fusion.combine(said(text), said(image))
    )
