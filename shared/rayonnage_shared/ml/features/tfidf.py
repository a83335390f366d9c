"""TF-IDF of word 1–2-grams and character 3–4-grams as plain arrays. Serving needs only NumPy.

The numbers equal scikit-learn's `TfidfVectorizer(sublinear_tf=True, strip_accents="unicode")` with
`token_pattern=r"\\w+", ngram_range=(1, 2)` for words and `analyzer="char_wb", ngram_range=(3, 4)` for characters.

Words are found in a dictionary, and character n-grams, of which there are more, by `CharacterGrams`.
"""

from __future__ import annotations

import itertools
import math
import re
import unicodedata
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from pathlib import Path
from typing import Self

import numpy as np

from rayonnage_shared.ml.base.model import FloatArray, IntArray
from rayonnage_shared.ml.features.character_grams import CharacterGrams

_WORD = re.compile(r"\w+")
# Text that matches the second pattern has no combining characters but those of the first. 560 characters are folded in
# 14 µs, in 24 with a look-up for each character.
_LATIN_MARKS = re.compile("[\u0300-\u036f]+")
_WITHOUT_OTHER_MARKS = re.compile("[\x00-\u0482\u1e00-\u20cf\u2100-\u2cee]*+")


def fold(text: str) -> str:
    """Return `text` in lower case without accents."""
    text = text.lower()
    if text.isascii():
        return text
    decomposed = unicodedata.normalize("NFKD", text)
    if _WITHOUT_OTHER_MARKS.fullmatch(decomposed):
        return _LATIN_MARKS.sub("", decomposed)
    return "".join(one for one in decomposed if not unicodedata.combining(one))


def words_of(folded: str) -> list[str]:
    """Return the words of a folded text."""
    return _WORD.findall(folded)


def word_grams(words: list[str]) -> list[str]:
    """Return the words and the word bigrams."""
    return words + [f"{first} {second}" for first, second in itertools.pairwise(words)]


@dataclass(frozen=True)
class Vocabulary:
    """The n-grams of a block by position, and their inverse document frequencies: `idf` (n_terms,) float32."""

    terms: list[str]
    idf: FloatArray

    @cached_property
    def positions(self) -> dict[str, int]:
        """The position of each term."""
        return {term: position for position, term in enumerate(self.terms)}

    def save(self, path: Path) -> None:
        """Write the terms as one UTF-8 blob with offsets, so nothing is pickled."""
        encoded = [term.encode() for term in self.terms]
        offsets = np.cumsum([0, *map(len, encoded)], dtype=np.int64)
        np.savez(path, terms=np.frombuffer(b"".join(encoded), dtype=np.uint8), offsets=offsets, idf=self.idf)

    @classmethod
    def load(cls, path: Path) -> Self:
        """Load what `save` wrote."""
        with np.load(path, allow_pickle=False) as arrays:
            blob, offsets = arrays["terms"].tobytes(), arrays["offsets"].tolist()
            idf = arrays["idf"]
        return cls([blob[start:end].decode() for start, end in pairwise(offsets)], idf)


class Tfidf:
    """Fitted features: a word block and a character block, each of length 1.

    A title costs about 50 µs, a text of 550 characters 210.
    """

    def __init__(self, words: Vocabulary, characters: Vocabulary) -> None:
        self.words = words
        self.characters = characters
        self.size = len(words.idf) + len(characters.idf)
        """Number of terms of both blocks; characters come after words."""
        self._idf = np.concatenate([words.idf, characters.idf])

    @cached_property
    def _grams(self) -> CharacterGrams:
        return CharacterGrams(self.characters.terms)

    def vector(self, text: str) -> tuple[IntArray, FloatArray]:
        """Return the terms of a cleaned text and their weights, both blocks in one."""
        folded = fold(text)
        words = Counter(map(self.words.positions.get, word_grams(words_of(folded))))
        words.pop(None, None)
        characters, repeats = self._grams.count(folded)
        border = len(words)
        terms = np.concatenate([np.array(list(words), dtype=np.int64), characters + len(self.words.idf)])
        counts = np.concatenate([np.array(list(words.values()), dtype=np.int64), repeats])
        values = np.log(counts, dtype=np.float32)
        values += 1
        values *= self._idf.take(terms)
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
