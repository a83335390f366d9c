"""The sentence embedding."""

from __future__ import annotations

import numpy as np
import pytest

from rayonnage_shared.ml.base.model import ProductText
from rayonnage_shared.ml.features import sentence_embedding
from rayonnage_shared.ml.features.sentence_embedding import (
    DIMENSIONS,
    MAX_CHARACTERS,
    embedding_input,
    encode,
    encode_many,
)

TEXTS = ["Piscine tubulaire", "", "Inflatable pool for the garden", "Roman policier " * 12, "🎁", "Schwimmbecken"]


def test_a_text_alone_and_in_a_batch_agree() -> None:
    batch = encode(TEXTS)
    alone = np.concatenate([encode([text]) for text in TEXTS])
    assert batch.shape == (len(TEXTS), DIMENSIONS)
    np.testing.assert_allclose(batch, alone, atol=2e-6)
    np.testing.assert_allclose(np.linalg.norm(batch, axis=1), 1, atol=1e-4)


def test_the_same_thing_in_two_languages_is_near() -> None:
    pool, schwimmbecken, roman = encode(["Swimming pool", "Schwimmbecken", "Roman policier"])
    assert pool @ schwimmbecken > pool @ roman + 0.2


def test_only_the_first_characters_are_read() -> None:
    assert embedding_input(ProductText("Lampe", "d" * 1000)) == "Lampe " + "d" * (MAX_CHARACTERS - 6)
    assert embedding_input(ProductText("", "Lampe")) == "Lampe"


def test_two_processes_give_what_one_gives(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sentence_embedding, "_MIN_FOR_PROCESSES", 1)
    said: list[float] = []
    many = encode_many(TEXTS, lambda fraction, message: said.append(fraction))
    np.testing.assert_allclose(many, encode(TEXTS), atol=2e-6)
    assert said[-1] == 1


def test_no_texts_give_no_rows() -> None:
    assert encode([]).shape == encode_many([]).shape == (0, DIMENSIONS)
