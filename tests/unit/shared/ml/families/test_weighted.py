from __future__ import annotations

import numpy as np
import pytest

from rayonnage_shared.ml.base.model import FloatArray, IntArray, Labels
from rayonnage_shared.ml.families.fusion.weighted import WeightedFusion
from tests.unit.shared.ml.fusion.outputs import N_CLASSES, classes_of, output, said


def fit(text: FloatArray, image: FloatArray, classes: IntArray) -> WeightedFusion:
    labels = Labels(classes, np.arange(len(classes)) % 5, N_CLASSES)
    return WeightedFusion.fit(said(text), said(image), labels).model


def test_an_output_that_is_noise_gets_little_weight() -> None:
    classes = classes_of(2000)

    fusion = fit(output(classes, 1.5, 1), output(classes_of(2000)[::-1].copy(), 1.5, 2), classes)

    assert fusion.image_weight < 0.1 < fusion.text_weight


def test_rows_without_both_output_are_left_out() -> None:
    classes = classes_of(300)
    text, image = output(classes, 1.5, 1), output(classes, 1.0, 2)
    holes = image.copy()
    holes[200:] = np.nan

    fusion, same = fit(text, holes, classes), fit(text[:200], image[:200], classes[:200])

    assert fusion.rows == 200
    assert fusion.text_weight == pytest.approx(same.text_weight)


@pytest.mark.parametrize("n", [0, 1, 3])
def test_with_few_rows_the_usual_weights_stand(n: int) -> None:
    classes = classes_of(n)

    fusion = fit(output(classes, 1.5, 1), output(classes, 1.0, 2), classes)

    assert fusion.text_weight == pytest.approx(1.0, abs=0.2)
    assert fusion.image_weight == pytest.approx(0.5, abs=0.2)
    assert np.abs(fusion.bias).max() < 0.5


def test_one_output_alone_is_returned_unchanged() -> None:
    classes = classes_of(50)
    text, image = output(classes, 1.5, 1), output(classes, 1.0, 2)
    fusion = fit(text, image, classes)

    np.testing.assert_array_equal(fusion.combine(said(text), None), text)
    np.testing.assert_array_equal(fusion.combine(None, said(image)), image)


def test_output_that_exclude_each_other_still_give_probabilities() -> None:
    text, image = (np.array([row], dtype=np.float32) for row in ([1.0, 0.0], [0.0, 1.0]))

    (row,) = WeightedFusion(1, 1, np.zeros(2, dtype=np.float32), 0).combine(said(text), said(image))

    np.testing.assert_allclose(row, [0.5, 0.5])
