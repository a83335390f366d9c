from __future__ import annotations

import numpy as np
import pytest

from rayonnage_shared.core.errors import BadInput
from rayonnage_shared.ml.base.model import Fitting, FloatArray, IntArray, Labels
from rayonnage_shared.ml.families.fusion.concatenate import ConcatenateFusion
from rayonnage_shared.ml.families.fusion.weighted import WeightedFusion
from tests.unit.shared.ml.fusion.outputs import N_CLASSES, classes_of, log_loss, output, said


def features(classes: IntArray, seed: int, told: float = 0.0) -> FloatArray:
    """Return four features, the first of which tells class 0 from the others by `told` deviations."""
    found = np.random.default_rng(seed).normal(size=(len(classes), 4)).astype(np.float32)
    found[:, 0] += told * (classes == 0)
    return found


def labels(classes: IntArray) -> Labels:
    return Labels(classes, np.arange(len(classes)) % 5, N_CLASSES)


def test_what_only_the_features_tell_is_learned() -> None:
    classes = classes_of(1600)
    text, image = said(output(classes, 1.2, 1), features(classes, 3, 2.0)), said(output(classes, 1.0, 2))

    found = ConcatenateFusion.fit(text, image, labels(classes))

    pool = WeightedFusion.fit(text, image, labels(classes))
    assert log_loss(found.held_out, classes) < log_loss(pool.held_out, classes) - 0.05
    assert found.facts["penalty"] > 0


def test_where_the_features_tell_nothing_the_pool_stands_alone() -> None:
    classes = classes_of(120)
    text = said(output(classes, 1.2, 1), features(classes, 3))
    image = said(output(classes, 1.0, 2), features(classes, 4))

    found, pool = (family.fit(text, image, labels(classes)) for family in (ConcatenateFusion, WeightedFusion))

    assert "penalty" not in found.facts
    np.testing.assert_allclose(found.model.combine(text, image), pool.model.combine(text, image), atol=1e-5)
    np.testing.assert_allclose(found.held_out, pool.held_out, atol=1e-5)


def test_features_of_different_size_are_made_comparable() -> None:
    classes = classes_of(400)
    probabilities = output(classes, 1.2, 1), output(classes, 1.0, 2)
    seen = features(classes, 3, 2.0)
    fitting = Fitting({"penalty": 0.1})

    small, large = (
        ConcatenateFusion.fit(
            said(probabilities[0], seen * scale + shift), said(probabilities[1]), labels(classes), fitting
        ).held_out
        for scale, shift in ((1, 0), (50, 1000))
    )

    np.testing.assert_allclose(small, large, atol=0.01)


def test_what_a_missing_photo_means_is_learned_from_rows_that_lack_it() -> None:
    classes = classes_of(900)
    text, image = output(classes, 1.0, 1), output(classes, 1.0, 2)
    image[np.arange(900) % 3 > 0] = np.nan
    lacking = np.isnan(image).any(axis=1)
    classes[lacking & (np.arange(900) % 2 == 0)] = 4  # without a photo half are of one class

    model = ConcatenateFusion.fit(said(text), said(image), labels(classes), Fitting({"dropout": 0.0})).model

    alone = model.combine(said(text[lacking]), None)
    assert alone[:, 4].mean() == pytest.approx((classes[lacking] == 4).mean(), abs=0.05)
    assert log_loss(alone, classes[lacking]) < log_loss(text[lacking], classes[lacking]) - 0.1


def test_where_no_row_lacks_a_modality_one_is_dropped() -> None:
    classes = np.where(np.arange(600) % 2 == 0, 4, classes_of(600))
    text, image = output(classes, 1.0, 1), output(classes, 1.0, 2)

    dropping, not_dropping = (
        ConcatenateFusion.fit(said(text), said(image), labels(classes), Fitting({"dropout": dropout, "penalty": 1.0}))
        for dropout in (0.5, 0.0)
    )

    assert log_loss(dropping.text_alone, classes) < log_loss(text, classes) - 0.05
    np.testing.assert_allclose(not_dropping.model.combine(said(text), None), text, atol=1e-5)


@pytest.mark.parametrize(
    ("name", "value"), [("penalty", -1.0), ("dropout", 1.5), ("photo_scale", -0.1), ("penalty", float("nan"))]
)
def test_a_parameter_that_means_nothing_is_refused(name: str, value: float) -> None:
    classes = classes_of(10)

    with pytest.raises(BadInput, match=name):
        ConcatenateFusion.fit(
            said(output(classes, 1, 1)), said(output(classes, 1, 2)), labels(classes), Fitting({name: value})
        )
