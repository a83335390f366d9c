"""Tokenize products into word pieces, the same way for serving and for training in the torch environment."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from rayonnage_shared.core.errors import BadInput
from rayonnage_shared.ml.base.model import ProductText

LONGEST_PIECE = 16
"""Maximum length of a word piece (SentencePiece's default, used by CamemBERT)."""


class Subwords:
    """A tokenizer from a `tokenizer.json`, with a maximum input length; threads may share it.

    Equals transformers' CamembertTokenizer with `truncation="longest_first"`. Raises BadInput for a tokenizer
    without CamemBERT's special tokens.
    """

    def __init__(self, document: str, max_tokens: int) -> None:
        from tokenizers import Tokenizer

        self.document = document
        self.max_tokens = max_tokens
        self._tokenizer = Tokenizer.from_str(document)
        # The library's own truncation keeps all that it cuts off, for a pair in every combination: seconds for a text
        # of 20,000 characters.
        self._tokenizer.no_truncation()
        self._tokenizer.no_padding()
        self._start, self._end, self._padding = (self._mark(mark) for mark in ("<s>", "</s>", "<pad>"))
        self.size = int(self._tokenizer.get_vocab_size())

    def ids(self, text: ProductText) -> list[int]:
        """Return a product's token ids: title and description as a pair, or a single text, or special tokens alone.

        A pair that is too long is truncated to equal lengths, the longer one first.
        """
        if not (text.title and text.description):
            only = self._pieces(text.title or text.description)
            return [self._start, *only[: self.max_tokens - 2], self._end]
        first, second = self._pieces(text.title), self._pieces(text.description)
        room = self.max_tokens - 4
        if len(first) + len(second) > room:
            shorter = min(len(first), len(second), room // 2)
            longer = room - shorter
            first, second = (
                (first[:shorter], second[:longer]) if len(first) <= len(second) else (first[:longer], second[:shorter])
            )
        return [self._start, *first, self._end, self._end, *second, self._end]

    def padded(self, texts: Sequence[ProductText]) -> NDArray[np.int64]:
        """Return the token ids of one or more products (n, longest) int64."""
        return padded([self.ids(text) for text in texts], self._padding)

    def _mark(self, mark: str) -> int:
        number = self._tokenizer.token_to_id(mark)
        if number is None:
            raise BadInput(f"The tokenizer of these weights has no {mark}, so it is not a CamemBERT tokenizer.")
        return int(number)

    def _pieces(self, text: str) -> list[int]:
        # The text cut off here lies behind the last piece kept.
        near = text[: LONGEST_PIECE * self.max_tokens]
        ids: list[int] = self._tokenizer.encode(near, add_special_tokens=False).ids
        return ids


def padded(ids: Sequence[Sequence[int]], padding: int) -> NDArray[np.int64]:
    """Return lists of token ids as rows (n, longest) int64."""
    rows = np.full((len(ids), max(len(one) for one in ids)), padding, dtype=np.int64)
    for row, one in zip(rows, ids, strict=True):
        row[: len(one)] = one
    return rows
