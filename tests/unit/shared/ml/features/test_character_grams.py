"""Character n-grams as integers, against the strings themselves."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from rayonnage_shared.ml.features.character_grams import Alphabet, CharacterGrams, grams_of_chunks

MANY = st.text(st.characters(exclude_categories=()), max_size=30)
"""Any code point, lone surrogates too."""
GRAMS = st.lists(st.text(st.sampled_from("ab \x00é🎁"), min_size=3, max_size=4), unique=True)


def grams(text: str) -> list[str]:
    return [text[start : start + size] for size in (3, 4) for start in range(len(text) - size + 1)]


@given(MANY)
def test_each_gram_of_a_text_has_a_key_of_its_own(text: str) -> None:
    alphabet = Alphabet(text)
    keys = alphabet.keys(text)
    assert alphabet.grams_of(keys) == grams(text)
    assert len(set(keys.tolist())) == len(set(grams(text)))
    np.testing.assert_array_equal(alphabet.keys_of(grams(text)), keys)


@given(GRAMS, MANY)
def test_the_grams_of_a_vocabulary_are_counted(vocabulary: list[str], text: str) -> None:
    padded = f" {' '.join(text.split())} "
    expected = Counter(gram for gram in grams(padded) if gram in vocabulary)
    positions, counts = CharacterGrams(vocabulary).count(text)
    found = {vocabulary[position]: int(count) for position, count in zip(positions, counts, strict=True)}
    assert found == expected


def test_characters_outside_the_alphabet_are_in_no_gram() -> None:
    known = CharacterGrams(["abc", "abcd"])
    for text in ("ab", "xbc", "abx", "abcé", "abc🎁"):
        positions, _ = known.count(text)
        assert positions.tolist() == ([0] if "abc" in text else [])


def test_grams_of_chunks_do_not_go_from_one_chunk_to_the_next() -> None:
    chunks = ["ab", "c", "ab"]
    alphabet = Alphabet(" abc")
    found = grams_of_chunks(chunks, alphabet)
    names = alphabet.grams_of(found.keys)
    pairs = sorted((chunk, names[gram]) for chunk, gram in zip(found.chunks, found.grams, strict=True))
    expected = [(number, gram) for number, chunk in enumerate(chunks) for gram in grams(f" {chunk} ")]
    assert pairs == sorted(expected)


def test_too_many_characters_are_refused() -> None:
    with pytest.raises(ValueError, match="65535 different characters"):
        Alphabet("".join(map(chr, range(0x10000, 0x1FFFF))))
