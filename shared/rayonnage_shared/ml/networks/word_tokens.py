"""Encode cleaned titles and descriptions as rows of word ids for a recurrent network."""

from __future__ import annotations

import json
import re
import unicodedata
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Self

import numpy as np
from numpy.typing import NDArray

from rayonnage_shared.ml.base.model import ProductText

PADDING, UNKNOWN, DIVIDER = 0, 1, 2
"""Ids of padding, of unknown words, and of the separator between title and description."""

_SPECIAL = 3
_WORD = re.compile(r"\w+")
_MAX_TITLE_SHARE = 0.75  # of the length; some titles contain the whole description

Tokens = NDArray[np.int32]


@dataclass(frozen=True)
class WordTokens:
    """A vocabulary, and the number of words read per product. Ignores case and accents, which shops often omit."""

    words: tuple[str, ...]
    length: int

    @classmethod
    def of(cls, texts: Sequence[ProductText], *, vocabulary: int, min_rows: int, length: int) -> Self:
        """Return the `vocabulary` most frequent words that occur in at least `min_rows` texts."""
        rows: Counter[str] = Counter()
        for text in texts:
            rows.update({*_words(text.title), *_words(text.description)})
        frequent = sorted((word for word, count in rows.items() if count >= min_rows), key=lambda w: (-rows[w], w))
        return cls(tuple(frequent[:vocabulary]), length)

    @property
    def size(self) -> int:
        """Number of ids."""
        return len(self.words) + _SPECIAL

    @cached_property
    def _numbers(self) -> dict[str, int]:
        return {word: number for number, word in enumerate(self.words, _SPECIAL)}

    def row(self, text: ProductText) -> list[int]:
        """Return the ids of one product, at least one and at most `length`."""
        title = _words(text.title)[: int(self.length * _MAX_TITLE_SHARE)]
        words = [self._numbers.get(word, UNKNOWN) for word in title]
        words.append(DIVIDER)
        words += [self._numbers.get(word, UNKNOWN) for word in _words(text.description)[: self.length - len(words)]]
        return words

    def rows(self, texts: Sequence[ProductText]) -> Tokens:
        """Return (n, longest) int32, right-padded with PADDING."""
        return padded([self.row(text) for text in texts])

    def save(self, path: Path) -> None:
        """Write the vocabulary as JSON."""
        document = {"length": self.length, "words": self.words}
        path.write_text(json.dumps(document, ensure_ascii=False), encoding="utf-8")

    @classmethod
    def load(cls, path: Path) -> Self:
        """Load what `save` wrote."""
        document = json.loads(path.read_text(encoding="utf-8"))
        return cls(tuple(document["words"]), int(document["length"]))


def padded(rows: Sequence[Sequence[int]]) -> Tokens:
    """Return rows of ids as one (n, longest) int32 array, right-padded with PADDING."""
    table = np.full((len(rows), max(map(len, rows), default=1)), PADDING, dtype=np.int32)
    for place, row in zip(table, rows, strict=True):
        place[: len(row)] = row
    return table


def _words(text: str) -> list[str]:
    folded = text.lower()
    if not folded.isascii():
        decomposed = unicodedata.normalize("NFKD", folded)
        folded = "".join(character for character in decomposed if not unicodedata.combining(character))
    return _WORD.findall(folded)
