from __future__ import annotations

import numpy as np

from rayonnage_shared.ml.base.model import FloatArray, IntArray
from rayonnage_shared.ml.linear.discriminant import fit_discriminant


def clouds(n: int, seed: int, n_classes: int = 4, width: int = 30) -> tuple[FloatArray, IntArray]:
    """Return rows around one centre a class, in features of very different scale."""
    centres = np.random.default_rng(99).normal(size=(n_classes, width))
    random = np.random.default_rng(seed)
    classes = random.integers(0, n_classes, n)
    features = (centres[classes] + random.normal(size=(n, width))) * np.geomspace(0.01, 100, width)
    return features.astype(np.float32), classes


def test_new_rows_get_the_right_class() -> None:
    features, classes = clouds(400, 1)
    unseen, right = clouds(400, 2)

    model = fit_discriminant(features, classes, 4, penalty=0.1)

    assert ((unseen @ model.weights + model.intercept).argmax(axis=1) == right).mean() > 0.95


def test_a_class_without_rows_has_weights_of_zero() -> None:
    features, classes = clouds(200, 1)

    model = fit_discriminant(features, classes, 7, penalty=0.1)

    assert model.weights.shape == (30, 7)
    assert not model.weights[:, 4:].any()
    assert model.weights.dtype == model.intercept.dtype == np.float32


def test_a_constant_feature_and_a_class_of_one_row_do_no_harm() -> None:
    features, classes = clouds(60, 1)
    features[:, 3] = 5
    classes[0] = 4

    model = fit_discriminant(features, classes, 5, penalty=0.1)

    assert np.isfinite(model.weights).all()
    assert np.isfinite(model.intercept).all()


def test_a_single_class_is_enough() -> None:
    features, _ = clouds(5, 1)

    model = fit_discriminant(features, np.zeros(5, dtype=np.int64), 2, penalty=0.1)

    assert np.isfinite(model.weights).all()


def test_rows_in_another_order_give_the_same_model() -> None:
    features, classes = clouds(200, 1)
    order = np.random.default_rng(3).permutation(200)

    model = fit_discriminant(features, classes, 4, penalty=0.1)
    shuffled = fit_discriminant(features[order], classes[order], 4, penalty=0.1)

    scores, again = (features @ one.weights + one.intercept for one in (model, shuffled))
    np.testing.assert_allclose(scores, again, atol=0.05)
