"""How the fitted text families behave."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from rayonnage_shared.core.errors import BadInput
from rayonnage_shared.ml.base.model import DEFAULTS, Fitting, FloatArray, IntArray, Labels, ProductText, TextModel
from rayonnage_shared.ml.families import text_family
from rayonnage_shared.ml.families.text.tfidf_svm import TfidfSvm
from rayonnage_shared.ml.features.text import product_text
from tests.processor_time import relative_cost

SHELVES = [
    ["piscine", "bouée", "pompe", "filtre", "bassin"],
    ["console", "manette", "jeu", "figurine", "carte"],
    ["roman", "livre", "poche", "tome", "édition"],
    ["chaise", "table", "coussin", "lampe", "tapis"],
]
COMMON = ["bleu", "neuf", "grand", "lot", "enfant", "pour", "avec", "la"]
FAMILIES = [text_family(name) for name in ("tfidf-embedding", "tfidf-static", "tfidf-svm")]


def catalogue(n: int, seed: int = 0) -> tuple[list[ProductText], IntArray]:
    """Return `n` products of four shelves, a fifth of them with a misleading word, half with a description."""
    random = np.random.default_rng(seed)
    classes = random.integers(0, 4, n)
    texts = []
    for shelf in classes:
        words = [*random.choice(SHELVES[shelf], 2), *random.choice(COMMON, 3)]
        if random.random() < 0.2:
            words[0] = random.choice(SHELVES[random.integers(4)])
        body = " ".join(random.choice(SHELVES[shelf] + COMMON, 6)) if random.random() < 0.5 else ""
        texts.append(ProductText(" ".join(map(str, words)), body))
    return texts, classes


@pytest.fixture(scope="module", params=FAMILIES, ids=lambda family: family.name)
def fitted(request: pytest.FixtureRequest) -> tuple[TextModel, FloatArray, IntArray]:
    """A model of six classes, two of which have no rows, its held-out probabilities and the truth."""
    texts, classes = catalogue(300)
    labels = Labels(classes, np.arange(300) % 5, 6)
    found = request.param.fit(texts, labels)
    return found.model, found.held_out, classes


Fitted = tuple[TextModel, FloatArray, IntArray]


def test_held_out_products_find_their_shelf(fitted: Fitted) -> None:
    _, held_out, classes = fitted
    assert np.mean(held_out.argmax(axis=1) == classes) > 0.9
    np.testing.assert_allclose(held_out.sum(axis=1), 1, atol=1e-5)


def test_confidence_on_held_out_products_is_earned(fitted: Fitted) -> None:
    _, held_out, classes = fitted
    right = held_out.argmax(axis=1) == classes
    assert abs(held_out.max(axis=1).mean() - right.mean()) < 0.05


def test_a_class_without_training_products_gets_nothing(fitted: Fitted) -> None:
    model, held_out, _ = fitted
    assert held_out[:, 4:].max() == 0
    assert model.predict_proba([ProductText("piscine", "")])[0, 4:].max() == 0


def test_an_uncleaned_title_gives_what_the_clean_one_gives(fitted: Fitted) -> None:
    model, _, _ = fitted
    raw = product_text("<b>Bou&amp;eacute;e</b>\n pour   piscine", "nan")
    np.testing.assert_array_equal(
        model.predict_proba([raw]), model.predict_proba([ProductText("Bouée pour piscine", "")])
    )


def test_a_shuffled_batch_gives_the_same_rows(fitted: Fitted) -> None:
    model, _, _ = fitted
    texts, _ = catalogue(40, seed=1)
    order = np.random.default_rng(0).permutation(40)
    shuffled = model.predict_proba([texts[position] for position in order])
    np.testing.assert_allclose(shuffled, model.predict_proba(texts)[order], atol=1e-5)


@pytest.mark.parametrize(
    "text", [("piscine", ""), ("", "piscine"), ("", ""), ("🎁", "!!!"), ("мяч 球", ""), ("x" * 20_000, "")]
)
def test_odd_texts_get_probabilities(fitted: Fitted, text: tuple[str, str]) -> None:
    probabilities = fitted[0].predict_proba([ProductText(*text)])
    assert probabilities.shape == (1, 6)
    assert probabilities.sum() == pytest.approx(1, abs=1e-5)


def test_no_texts_get_no_rows(fitted: Fitted) -> None:
    assert fitted[0].predict_proba([]).shape == (0, 6)


def test_a_loaded_model_answers_as_the_fitted_one(fitted: Fitted, tmp_path: Path) -> None:
    model, _, _ = fitted
    model.save(tmp_path)
    texts, _ = catalogue(20, seed=2)
    np.testing.assert_array_equal(type(model).load(tmp_path).predict_proba(texts), model.predict_proba(texts))


@pytest.mark.parametrize("family", FAMILIES, ids=lambda family: family.name)
def test_fitting_twice_gives_the_same_model(family: type[TextModel]) -> None:
    texts, classes = catalogue(60)
    labels = Labels(classes, np.arange(60) % 3, 4)
    fits = [family.fit(texts, labels, Fitting(seed=seed)) for seed in range(2)]
    np.testing.assert_array_equal(fits[0].held_out, fits[1].held_out)
    np.testing.assert_array_equal(fits[0].model.predict_proba(texts), fits[1].model.predict_proba(texts))


THIN = [
    ([0, 0, 0, 1, 1, 2, 3, 3], [0, 1, 2, 0, 1, 2, 3, 3]),  # classes of one row, classes in one fold only
    ([0, 1, 2, 3, 0, 1, 2, 3], [4] * 8),  # one fold: nothing to hold out
    ([2] * 8, [0, 1] * 4),  # one class
]


def check_thin_data(family: type[TextModel], classes: list[int], folds: list[int], fitting: Fitting = DEFAULTS) -> None:
    texts, _ = catalogue(8)
    texts[0] = texts[3] = ProductText("", "")
    labels = Labels(np.array(classes), np.array(folds), 4)
    fitted = family.fit(texts, labels, fitting)
    assert np.isnan(fitted.held_out).all() == (len(set(folds)) == 1)
    np.testing.assert_allclose(fitted.model.predict_proba(texts).sum(axis=1), 1, atol=1e-5)


@pytest.mark.parametrize("family", FAMILIES, ids=lambda family: family.name)
@pytest.mark.parametrize(("classes", "folds"), THIN)
def test_thin_data_can_be_fitted(family: type[TextModel], classes: list[int], folds: list[int]) -> None:
    check_thin_data(family, classes, folds)


@pytest.mark.parametrize("family", FAMILIES, ids=lambda family: family.name)
@pytest.mark.parametrize("parameters", [{"penalti": 1.0}, {"penalty": "high"}, {"penalty": True}, {"penalty": 0.0}])
def test_parameters_that_mean_nothing_are_refused(
    family: type[TextModel], parameters: dict[str, float | int | str | bool]
) -> None:
    texts, classes = catalogue(8)
    with pytest.raises(BadInput, match="penalt"):
        family.fit(texts, Labels(classes, np.arange(8) % 2, 4), Fitting(parameters))


def test_a_title_costs_well_under_a_millisecond() -> None:
    texts, classes = catalogue(2000)
    model = TfidfSvm.fit(texts, Labels(classes, np.arange(2000) % 2, 4)).model
    title = "Piscine tubulaire Intex ronde avec pompe et filtre, bleue, enfant"

    assert relative_cost(lambda: model.predict_proba([product_text(title, None)]), rounds=30) < 0.5  # 100 µs
