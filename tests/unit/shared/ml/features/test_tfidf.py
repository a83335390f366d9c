"""TF-IDF as plain arrays, against scikit-learn's."""

from __future__ import annotations

import subprocess
import sys
import unicodedata
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.pipeline import make_pipeline, make_union
from sklearn.svm import LinearSVC

from rayonnage_shared.ml.base.model import FloatArray, IntArray
from rayonnage_shared.ml.features.term_counts import TermCounts
from rayonnage_shared.ml.features.tfidf import Tfidf, fold
from tests.waiting import PATIENCE_S

TEXTS = [
    "Piscine tubulaire Intex 3,05 m, piscine ronde",
    "Été à la plage: bouée gonflable n°3",
    "a b c à É 12 x",
    "Jeu PS4 - Jeu d'aventure (édition Française)",
    "",
    "LEGO® Star-Wars™ 75192   Millennium Falcon",
    "Straße Größe ½ ﬁgurine İstanbul",
    "piscine piscine piscine bouée",
    "!!! ... --- 🎁🎁",
    "Coussin 40x40 cm coussin déco coussin",
] * 2


def fitted(texts: list[str], min_rows: int = 1) -> Tfidf:
    tfidf, _ = TermCounts.of(texts, min_rows=min_rows, max_terms=10**6).weighted(np.arange(len(texts)))
    return tfidf


@pytest.mark.parametrize("min_rows", [1, 2, 3])
def test_features_and_scores_equal_those_of_scikit_learn(min_rows: int) -> None:
    words = TfidfVectorizer(
        token_pattern=r"\w+", ngram_range=(1, 2), sublinear_tf=True, strip_accents="unicode", min_df=min_rows
    )
    characters = TfidfVectorizer(
        analyzer="char_wb", ngram_range=(3, 4), sublinear_tf=True, strip_accents="unicode", min_df=min_rows
    )
    classes = np.arange(len(TEXTS)) % 3
    pipeline = make_pipeline(make_union(words, characters), LinearSVC(random_state=0)).fit(TEXTS, classes)

    tfidf = fitted(TEXTS, min_rows)
    weights = np.zeros((tfidf.size, 3), dtype=np.float32)
    order = [tfidf.words.positions[term] for term in words.get_feature_names_out()]
    border = len(tfidf.words.idf)
    order += [border + tfidf.characters.positions[term] for term in characters.get_feature_names_out()]
    assert sorted(order) == list(range(tfidf.size))
    weights[order] = pipeline[-1].coef_.T

    unseen = [*TEXTS, "bouée piscine inconnue", "mot jamais vu", "PLAGE\xa0été"]
    scores = tfidf.scores(unseen, weights) + pipeline[-1].intercept_
    np.testing.assert_allclose(scores, pipeline.decision_function(unseen), atol=1e-5)


@given(st.lists(st.text(max_size=40), min_size=1, max_size=6))
def test_one_text_gets_the_row_that_training_saw(texts: list[str]) -> None:
    tfidf, blocks = TermCounts.of(texts, min_rows=1, max_terms=10**6).weighted(np.arange(len(texts)))
    expected = np.hstack([block.toarray() for block in blocks])
    np.testing.assert_allclose(dense(tfidf, texts), expected, atol=1e-6)


def test_a_term_outside_the_rows_that_were_fitted_weighs_nothing() -> None:
    counts = TermCounts.of(["alpha beta", "alpha gamma"], min_rows=1, max_terms=100)
    tfidf, blocks = counts.weighted(np.array([0]))
    assert tfidf.words.idf[tfidf.words.positions["gamma"]] == 0
    assert blocks[0][1].toarray().max() == pytest.approx(1)  # "alpha" alone


def test_the_commonest_terms_are_kept() -> None:
    counts = TermCounts.of(["un deux", "un trois", "un deux"], min_rows=1, max_terms=2)
    assert counts.words.terms == ["un", "deux"]


def test_a_saved_vocabulary_comes_back_whole(tmp_path: Path) -> None:
    tfidf = fitted(TEXTS)
    tfidf.save(tmp_path)
    loaded = Tfidf.load(tmp_path)
    assert loaded.words.positions == tfidf.words.positions
    assert loaded.characters.positions == tfidf.characters.positions
    np.testing.assert_array_equal(dense(loaded, TEXTS), dense(tfidf, TEXTS))


@given(st.text(st.characters(exclude_categories=()), max_size=20))
def test_folding_removes_what_unicode_calls_combining(text: str) -> None:
    decomposed = unicodedata.normalize("NFKD", text.lower())
    assert fold(text) == "".join(one for one in decomposed if not unicodedata.combining(one))


def test_folding_knows_every_combining_character() -> None:
    kept = [one for one in map(chr, range(0x110000)) if unicodedata.combining(one) and one in fold(f"é{one}")]
    assert not kept


def test_texts_without_a_word_are_zero() -> None:
    tfidf = fitted(["", ""])
    assert tfidf.size == 0
    assert tfidf.scores(["abc", ""], np.zeros((0, 4), dtype=np.float32)).tolist() == [[0] * 4] * 2


def test_serving_loads_neither_scikit_learn_nor_scipy() -> None:
    code = (
        "import sys, rayonnage_shared.ml.families.text.tfidf_svm, rayonnage_shared.ml.families.text.tfidf_embedding\n"
        "sys.exit(', '.join({'sklearn', 'scipy', 'pandas'} & set(sys.modules)) or 0)"
    )
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=PATIENCE_S
    )
    assert result.returncode == 0, result.stderr


def dense(tfidf: Tfidf, texts: list[str]) -> FloatArray:
    rows = np.zeros((len(texts), tfidf.size), dtype=np.float32)
    for row, text in enumerate(texts):
        terms: IntArray
        terms, values = tfidf.vector(text)
        rows[row, terms] = values
    return rows
