"""The table that drift compares: the same columns for answers and for the reference."""

from __future__ import annotations

from typing import Any

import numpy as np

from rayonnage_shared.drift.observations import COLUMNS, Observations, ScoredProduct, observe


def only_row(observed: Observations) -> dict[str, Any]:
    assert len(observed) == 1
    return {name: cells[0] for name, cells in observed.columns.items()}


def test_a_product_becomes_a_row_of_its_cleaned_text() -> None:
    product = ScoredProduct("Piscine <b>ronde</b>", "Pour  l&#39;&eacute;t&eacute;", True, 2583, 0.9, 0.8, 0.7)
    row = only_row(observe([product]))
    assert row == {
        "has_title": "yes",
        "title_characters": 13,
        "title_words": 2,
        "has_description": "yes",
        "description_characters": 10,
        "description_words": 2,
        "language": "fr",
        "has_photo": "yes",
        "category": "2583",
        "confidence": 0.9,
        "text_confidence": 0.8,
        "photo_confidence": 0.7,
    }


def test_a_photo_alone_has_no_language_and_no_embedding() -> None:
    observed = observe([ScoredProduct(None, None, True, 10, 0.9, None, 0.7)])
    row = only_row(observed)
    assert (row["has_title"], row["has_description"], row["has_photo"]) == ("no", "no", "yes")
    assert row["language"] is None
    assert np.isnan(row["title_words"]) and np.isnan(row["text_confidence"])
    assert np.isnan(observed.embeddings).all()


def test_texts_that_were_not_kept_are_unknown_and_not_missing() -> None:
    row = only_row(observe([ScoredProduct(None, None, False, 10, 0.9, 0.9, None)]))
    assert row["has_title"] is None and row["has_description"] is None


def test_nothing_observed_is_a_table_too() -> None:
    nothing = observe([])
    assert list(nothing.columns) == list(COLUMNS)
    assert nothing.embeddings.shape == (0, 512)
