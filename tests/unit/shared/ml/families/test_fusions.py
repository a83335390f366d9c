"""What every fusion does, whatever its family."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rayonnage_shared.core.errors import BadInput
from rayonnage_shared.ml.base.model import FittedFusion, Fitting, FloatArray, Fusion, IntArray, Labels, ModelOutput
from rayonnage_shared.ml.families import family_names, fusion_family
from rayonnage_shared.ml.metrics.classification import evaluate
from tests.unit.shared.ml.fusion.outputs import N_CLASSES, classes_of, log_loss, output, said

QUICK: dict[str, Mapping[str, float]] = {"concatenate": {"penalty": 0.1}}
"""Parameters with which a family has nothing to search for."""


@pytest.fixture(params=family_names("fusion"))
def name(request: pytest.FixtureRequest) -> str:
    return str(request.param)


def fitted(
    name: str, text: ModelOutput, image: ModelOutput, classes: IntArray, quick: bool = True
) -> FittedFusion[Fusion]:
    labels = Labels(classes, np.arange(len(classes)) % 5, N_CLASSES)
    parameters = QUICK.get(name, {}) if quick else {}
    return fusion_family(name).fit(text, image, labels, Fitting(parameters))


def with_features(probabilities: FloatArray, seed: int, width: int = 3) -> ModelOutput:
    features = np.random.default_rng(seed).normal(size=(len(probabilities), width)).astype(np.float32)
    return said(probabilities, features)


def pair(classes: IntArray) -> tuple[ModelOutput, ModelOutput]:
    return with_features(output(classes, 1.5, 1), 11), with_features(output(classes, 1.0, 2), 12)


@cache
def widthless(name: str) -> Fusion:
    """Return a fusion of models that have no features."""
    classes = classes_of(80)
    return fitted(name, said(output(classes, 1.5, 1)), said(output(classes, 1.0, 2)), classes).model


def calibration_error(probabilities: FloatArray, classes: IntArray) -> float:
    return evaluate(probabilities, classes, tuple(range(N_CLASSES))).ece


def rows_of(one: ModelOutput, rows: slice) -> ModelOutput:
    return ModelOutput(one.probabilities[rows], one.features[rows])


def test_both_together_are_better_than_either_alone_on_new_rows(name: str) -> None:
    classes = classes_of(2000)
    text, image = pair(classes)
    old, new = slice(0, 1000), slice(1000, 2000)

    fusion = fitted(name, rows_of(text, old), rows_of(image, old), classes[old]).model

    both, truth = fusion.combine(rows_of(text, new), rows_of(image, new)), classes[new]
    for alone in (text.probabilities[new], image.probabilities[new]):
        assert log_loss(both, truth) < log_loss(alone, truth)
        assert (both.argmax(axis=1) == truth).mean() > (alone.argmax(axis=1) == truth).mean()


def test_an_output_that_is_noise_changes_little(name: str) -> None:
    classes = classes_of(1500)
    text, noise = said(output(classes, 1.5, 1)), said(output(classes_of(1500, seed=9), 1.5, 2))
    old, new = slice(0, 1000), slice(1000, 1500)

    fusion = fitted(name, rows_of(text, old), rows_of(noise, old), classes[old], quick=False).model

    both = fusion.combine(rows_of(text, new), rows_of(noise, new))
    assert log_loss(both, classes[new]) < log_loss(text.probabilities[new], classes[new]) + 0.02


@pytest.mark.parametrize("n", [0, 1, 3])
def test_with_few_rows_the_usual_pool_stands(name: str, n: int) -> None:
    classes = classes_of(n)
    text, image = said(output(classes, 1.5, 1)), said(output(classes, 1.0, 2))

    fusion = fitted(name, text, image, classes, quick=False).model

    many = classes_of(50)
    sure, unsure = output(many, 1.5, 1), output(many, 1.0, 2)
    usual = sure * np.sqrt(unsure)
    usual /= usual.sum(axis=1, keepdims=True)
    np.testing.assert_allclose(fusion.combine(said(sure), said(unsure)), usual, atol=0.15)


@pytest.mark.parametrize("folds", [5, 1])
def test_held_out_rows_were_not_seen_by_the_fusion_that_judges_them(name: str, folds: int) -> None:
    classes, groups = classes_of(300), np.arange(300) // 2
    text, image = pair(classes)
    labels = Labels(classes, groups % folds, N_CLASSES, groups)
    fitting = Fitting(QUICK.get(name, {}))
    before = fusion_family(name).fit(text, image, labels, fitting)

    twins = groups == 7
    changed = np.where(twins, (classes + 1) % N_CLASSES, classes)
    after = fusion_family(name).fit(text, image, replace(labels, classes=changed), fitting)

    for table in ("held_out", "text_alone", "image_alone"):
        np.testing.assert_array_equal(getattr(after, table)[twins], getattr(before, table)[twins])
    assert (after.held_out[~twins] != before.held_out[~twins]).any()


def test_noise_does_not_look_useful_on_held_out_rows(name: str) -> None:
    classes = classes_of(60)
    text, image = (with_features(output(classes_of(60, seed), 1.0, seed), seed) for seed in (1, 2))

    found = fitted(name, text, image, classes)

    assert log_loss(found.held_out, classes) > log_loss(found.model.combine(text, image), classes)


def test_a_row_with_one_modality_is_held_out_for_that_one_alone(name: str) -> None:
    classes = classes_of(200)
    text, image = pair(classes)
    text.probabilities[:50], image.probabilities[150:] = np.nan, np.nan

    found = fitted(name, text, image, classes)

    for table, missing in (
        (found.held_out, [*range(50), *range(150, 200)]),
        (found.text_alone, range(50)),
        (found.image_alone, range(150, 200)),
    ):
        assert np.flatnonzero(np.isnan(table).any(axis=1)).tolist() == list(missing)


def test_models_that_hold_out_one_fold_are_enough(name: str) -> None:
    classes, folds = classes_of(500), np.arange(500) % 5
    text, image = pair(classes)
    for one in (text, image):
        one.probabilities[folds != 0] = np.nan

    found = fusion_family(name).fit(text, image, Labels(classes, folds, N_CLASSES), Fitting(QUICK.get(name, {})))

    for table in (found.held_out, found.text_alone, found.image_alone):
        assert (np.isnan(table).any(axis=1) == (folds != 0)).all()


def test_one_modality_alone_is_no_worse_for_the_fusion(name: str) -> None:
    classes = classes_of(1200)
    text, image = pair(classes)
    old, new = slice(0, 800), slice(800, 1200)
    image.probabilities[500:800] = np.nan

    fusion = fitted(name, rows_of(text, old), rows_of(image, old), classes[old]).model

    for one, combined in (
        (text, fusion.combine(rows_of(text, new), None)),
        (image, fusion.combine(None, rows_of(image, new))),
    ):
        before, truth = one.probabilities[new], classes[new]
        assert log_loss(combined, truth) < log_loss(before, truth) + 0.01
        assert (combined.argmax(axis=1) == truth).mean() >= (before.argmax(axis=1) == truth).mean() - 0.01
        assert calibration_error(combined, truth) < calibration_error(before, truth) + 0.01


def test_no_output_at_all_is_an_error_of_the_caller(name: str) -> None:
    fusion = fitted(name, *pair(classes_of(5)), classes_of(5)).model

    with pytest.raises(ValueError, match="neither"):
        fusion.combine(None, None)


def test_a_class_that_neither_knows_stays_impossible(name: str) -> None:
    classes = classes_of(100) % (N_CLASSES - 1)
    text, image = pair(classes)
    for one in (text, image):
        one.probabilities[:, -1] = 0
        one.probabilities[:] /= one.probabilities.sum(axis=1, keepdims=True)

    fusion = fitted(name, text, image, classes).model

    for table in (fusion.combine(text, image), fusion.combine(text, None), fusion.combine(None, image)):
        assert (table[:, -1] == 0).all()
        assert (table[:, :-1] > 0).all()


@settings(max_examples=60, deadline=None)
@given(st.lists(st.lists(st.floats(0, 1, width=32), min_size=10, max_size=10), min_size=1, max_size=4))
@pytest.mark.parametrize("family", family_names("fusion"))
def test_rows_always_sum_to_1(family: str, rows: list[list[float]]) -> None:
    tables = np.array(rows, dtype=np.float32).reshape(len(rows), 2, N_CLASSES) ** 20
    totals = tables.sum(axis=2, keepdims=True)
    tables = np.where(totals > 0, tables / np.where(totals > 0, totals, 1), np.float32(1 / N_CLASSES))
    text, image = said(tables[:, 0].astype(np.float32)), said(tables[:, 1].astype(np.float32))

    fusion = widthless(family)

    for table in (fusion.combine(text, image), fusion.combine(text, None), fusion.combine(None, image)):
        assert table.dtype == np.float32
        np.testing.assert_allclose(table.sum(axis=1), 1, rtol=1e-5)


def test_a_saved_fusion_comes_back_equal(name: str, tmp_path: Path) -> None:
    classes = classes_of(100)
    text, image = pair(classes)
    fusion = fitted(name, text, image, classes).model

    fusion.save(tmp_path)

    loaded = fusion_family(name).load(tmp_path)
    for asked in ((text, image), (text, None), (None, image)):
        np.testing.assert_array_equal(loaded.combine(*asked), fusion.combine(*asked))


def test_a_product_alone_and_in_a_batch_gets_the_same(name: str) -> None:
    classes = classes_of(100)
    text, image = pair(classes)
    fusion = fitted(name, text, image, classes).model

    alone = fusion.combine(rows_of(text, slice(7, 8)), rows_of(image, slice(7, 8)))

    np.testing.assert_allclose(alone, fusion.combine(text, image)[7:8], atol=1e-5)


def test_a_parameter_that_no_fusion_has_is_refused(name: str) -> None:
    classes = classes_of(10)

    with pytest.raises(BadInput, match="no parameter 'colour'"):
        fusion_family(name).fit(*pair(classes), Labels(classes, classes, N_CLASSES), Fitting({"colour": 1}))
