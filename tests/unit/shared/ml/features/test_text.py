"""Cleaning of titles and descriptions."""

from __future__ import annotations

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from rayonnage_shared.ml.features.text import MAX_CHARACTERS, clean, product_text
from rayonnage_shared.ml.features.text_check import CASES
from tests.processor_time import relative_cost

# Pieces of what catalogues hold, so that hypothesis meets markup, entities and mojibake in every mixture.
MARKUP = ["<b>", "</b>", "<br/>", "<p class='x'>", "<!--", "-->", "<", ">", "<script>", "</script>"]
ENTITIES = ["&", "amp;", "&amp;", "&lt;", "&gt;", "&#39;", "&eacute;", "&nbsp;"]
LETTERS = [
    "é",
    "Ã©",
    "â€™",
    "Â°",
    "€",
    "\x00",
    "\u200b",
    "\ud800",
    " ",
    "\n",
    "ﬁ",
    "e\u0301",
    "nan",
    "Piscine",
    "🎁",
    "１",
]
PIECES = st.sampled_from([*MARKUP, *ENTITIES, *LETTERS])
MESSY = st.one_of(st.text(max_size=60), st.lists(PIECES, max_size=25).map("".join))


@given(MESSY)
@example("&amp;amp;lt;b&amp;amp;gt;nan")
@example("<<b>b>x")
@settings(max_examples=400, deadline=None)
def test_cleaning_twice_changes_nothing(raw: str) -> None:
    once = clean(raw)
    assert clean(once) == once


@given(MESSY)
@settings(deadline=None)
def test_a_cleaned_text_can_be_written_as_utf8_on_one_line(raw: str) -> None:
    cleaned = clean(raw)
    cleaned.encode()
    assert cleaned == " ".join(cleaned.split())


@pytest.mark.parametrize("missing", [None, float("nan"), "", "   ", "nan", "NaN", "<NA>", "\x00\u200b", "<br>"])
def test_a_missing_text_is_empty(missing: str | None) -> None:
    assert clean(missing) == ""


@pytest.mark.parametrize(("raw", "readable"), CASES)
def test_what_a_reader_would_see_is_kept(raw: str | None, readable: str) -> None:
    assert clean(raw) == readable


def test_case_is_kept() -> None:
    assert clean("LEGO Star Wars") == "LEGO Star Wars"


NESTED = ["&" + "amp;" * 9000 + "lt;", "<b>" * 9000, "<div>" * 9000, "<table><td>" * 4000, "<b><p>" * 5000]
UNCLOSED = ["<!--" * 9000, "<a href='" * 5000, "<" * 50_000]
LETTERS_IN_BULK = ["Ã©" * 30_000, "e" + "\u0301" * 40_000, "\ud800" * 40_000, "ﬃ" * 40_000]


@pytest.mark.parametrize("hostile", [*NESTED, *UNCLOSED, *LETTERS_IN_BULK])
def test_hostile_text_costs_little_and_stays_bounded(hostile: str) -> None:
    assert relative_cost(lambda: clean(hostile), rounds=1) < 1000  # 45 at worst
    assert len(clean(hostile)) <= MAX_CHARACTERS


def test_a_description_that_repeats_the_title_is_left_out() -> None:
    assert product_text("Lampe", "<p>Lampe</p>") == ("Lampe", "")
    assert product_text("Lampe", None) == ("Lampe", "")
    assert product_text(None, "Lampe") == ("", "Lampe")
