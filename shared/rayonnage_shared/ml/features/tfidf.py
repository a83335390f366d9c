"""TF-IDF of word 1–2-grams and character 3–4-grams as plain arrays. Serving needs only NumPy and a dictionary.

The numbers equal scikit-learn's `TfidfVectorizer(sublinear_tf=True, strip_accents="unicode")` with
`token_pattern=r"\\w+", ngram_range=(1, 2)` for words and `analyzer="char_wb", ngram_range=(3, 4)` for characters.
"""

from __future__ import annotations

import itertools
import math
import re
import unicodedata
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain, pairwise
from pathlib import Path
from typing import Self

import numpy as np

from rayonnage_shared.ml.base.model import FloatArray, IntArray

_WORD = re.compile(r"\w+")


def fold(text: str) -> str:
    """Return `text` in lower case without accents."""
    text = text.lower()
    if text.isascii():
        return text
    return "".join(one for one in unicodedata.normalize("NFKD", text) if not unicodedata.combining(one))


def words_of(folded: str) -> list[str]:
    """Return the words of a folded text."""
    return _WORD.findall(folded)


def word_grams(words: list[str]) -> list[str]:
    """Return the words and the word bigrams."""
    return words + [f"{first} {second}" for first, second in itertools.pairwise(words)]


def character_grams(chunk: str) -> list[str]:
    """Return the 3- and 4-grams of a chunk between white space, with one space on each side (`char_wb`)."""
    padded = f" {chunk} "
    length = len(padded)
    grams = [padded[start : start + 3] for start in range(length - 2)]
    grams += [padded[start : start + 4] for start in range(length - 3)]
    return grams


@dataclass(frozen=True, slots=True)
class Vocabulary:
    """Positions of n-grams and their inverse document frequencies: `idf` (n_terms,) float32."""

    positions: dict[str, int]
    idf: FloatArray

    def save(self, path: Path) -> None:
        """Write the terms as one UTF-8 blob with offsets, so nothing is pickled."""
        encoded = [term.encode() for term in self.positions]
        offsets = np.cumsum([0, *map(len, encoded)], dtype=np.int64)
        np.savez(path, terms=np.frombuffer(b"".join(encoded), dtype=np.uint8), offsets=offsets, idf=self.idf)

    @classmethod
    def load(cls, path: Path) -> Self:
        """Load what `save` wrote."""
        with np.load(path, allow_pickle=False) as arrays:
            blob, offsets = arrays["terms"].tobytes(), arrays["offsets"].tolist()
            idf = arrays["idf"]
        terms = (blob[start:end].decode() for start, end in pairwise(offsets))
        return cls({term: position for position, term in enumerate(terms)}, idf)


class Tfidf:
    """Fitted features: a word block and a character block, each of length 1. A title costs about 75 µs."""

    def __init__(self, words: Vocabulary, characters: Vocabulary) -> None:
        self.words = words
        self.characters = characters
        self.size = len(words.idf) + len(characters.idf)
        """Number of terms of both blocks; characters come after words."""
        self._idf = np.concatenate([words.idf, characters.idf])

    def vector(self, text: str) -> tuple[IntArray, FloatArray]:
        """Return the terms of a cleaned text and their weights, both blocks in one."""
        folded = fold(text)
        words = Counter(map(self.words.positions.get, word_grams(words_of(folded))))
        characters = Counter(map(self.characters.positions.get, _character_grams_of_text(folded)))
        words.pop(None, None)
        characters.pop(None, None)
        border, size = len(words), len(words) + len(characters)
        terms = np.fromiter(chain(words, characters), dtype=np.int64, count=size)
        counts = np.fromiter(chain(words.values(), characters.values()), dtype=np.float32, count=size)
        terms[border:] += len(self.words.idf)
        values = (np.log(counts) + np.float32(1)) * self._idf[terms]
        for block in (values[:border], values[border:]):
            np.divide(block, math.sqrt(block @ block) or 1.0, out=block)
        return terms, values

    def scores(self, texts: Sequence[str], weights: FloatArray) -> FloatArray:
        """Return `vector @ weights` for each text, (n, n_classes); `weights` is (size, n_classes)."""
        scores = np.empty((len(texts), weights.shape[1]), dtype=np.float32)
        for row, text in enumerate(texts):
            terms, values = self.vector(text)
            scores[row] = values @ weights.take(terms, axis=0)
        return scores

    def save(self, folder: Path) -> None:
        """Write words.npz and characters.npz."""
        self.words.save(folder / "words.npz")
        self.characters.save(folder / "characters.npz")

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Load what `save` wrote."""
        return cls(Vocabulary.load(folder / "words.npz"), Vocabulary.load(folder / "characters.npz"))


def _character_grams_of_text(folded: str) -> list[str]:
    """Return the `character_grams` of all chunks, and some across white space, which no vocabulary holds."""
    padded = f" {' '.join(folded.split())} "
    grams = [padded[start : start + 3] for start in range(len(padded) - 2)]
    grams += [padded[start : start + 4] for start in range(len(padded) - 3)]
    return grams
