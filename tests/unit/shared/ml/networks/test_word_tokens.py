from __future__ import annotations

from pathlib import Path

import numpy as np

from rayonnage_shared.ml.base.model import ProductText
from rayonnage_shared.ml.networks.word_tokens import DIVIDER, PADDING, UNKNOWN, WordTokens, padded

TEXTS = [ProductText("Piscine bleue", "pompe"), ProductText("piscine", ""), ProductText("PISCINE bleue bleue", "")]


def tokens(**options: int) -> WordTokens:
    return WordTokens.of(TEXTS, **{"vocabulary": 10, "min_rows": 1, "length": 8, **options})


def test_frequent_words_come_first_and_like_ones_in_alphabetical_order() -> None:
    assert tokens().words == ("piscine", "bleue", "pompe")


def test_words_of_few_products_and_beyond_the_vocabulary_are_left_out() -> None:
    assert tokens(min_rows=2).words == ("piscine", "bleue")
    assert tokens(vocabulary=1).words == ("piscine",)


def test_case_and_accents_do_not_count() -> None:
    known = WordTokens.of([ProductText("Édition limitée", "")], vocabulary=9, min_rows=1, length=8)

    assert known.row(ProductText("EDITION LIMITÉE", "")) == known.row(ProductText("édition limitee", ""))
    assert UNKNOWN not in known.row(ProductText("EDITION", ""))


def test_a_row_is_title_divider_description() -> None:
    known = tokens()

    first, bleue, pompe = (known.row(ProductText(word, ""))[0] for word in ("piscine", "bleue", "pompe"))

    assert known.row(TEXTS[0]) == [first, bleue, DIVIDER, pompe]
    assert known.row(ProductText("piscine inconnue", "")) == [first, UNKNOWN, DIVIDER]
    assert max(first, bleue, pompe) < known.size


def test_an_empty_product_still_has_one_number() -> None:
    assert tokens().row(ProductText("", "")) == [DIVIDER]


def test_long_texts_are_cut_and_a_long_title_leaves_room_for_the_description() -> None:
    row = tokens(length=8).row(ProductText("bleue " * 50, "pompe " * 50))

    assert len(row) == 8
    assert row.index(DIVIDER) == 6


def test_rows_are_filled_up_behind() -> None:
    table = tokens().rows(TEXTS)

    assert table.shape == (3, 4)
    assert table.dtype == np.int32
    assert (table[1, 2:] == PADDING).all()
    assert padded([]).shape == (0, 1)


def test_a_saved_vocabulary_reads_the_same(tmp_path: Path) -> None:
    known = tokens()
    known.save(tmp_path / "words.json")

    assert WordTokens.load(tmp_path / "words.json") == known
