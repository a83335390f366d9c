"""A sentence embedding without its network: look-ups in a table of token vectors, and the encoder's last layers.

The table has each token's average vector in the training texts, taken before the encoder's pooling, so it reflects the
usual context of a token, not the one at hand. `static_training.py` makes it; serving needs NumPy and tokenizers.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple, Self

import numpy as np
from numpy.typing import NDArray

from rayonnage_shared.ml.base.model import FloatArray, ProductText
from rayonnage_shared.ml.features.sentence_embedding import DIMENSIONS, embedding_input
from rayonnage_shared.ml.features.tfidf import fold, words_of

ENDS = 2
"""The encoder puts a token before and one after each text."""
TITLE_LENGTH = np.float32(0.8)
"""Length of the title's mean beside that of the whole text."""


class Layers(NamedTuple):
    """The encoder's layers after pooling, by the encoder's names for their matrices."""

    d0: FloatArray
    p1: FloatArray
    d1: FloatArray
    d2: FloatArray
    p3: FloatArray
    d3: FloatArray

    def embeddings(self, sums: FloatArray, tokens: FloatArray) -> FloatArray:
        """Return embeddings (n, 512) of length 1 for sums of token vectors (n, 512) and numbers of tokens (n,).

        The row of a text without tokens is 0.
        """
        pooled = sums / np.sqrt(np.maximum(tokens, 1))[:, None]
        first = np.maximum(pooled @ self.d0, 0)
        second = np.maximum(pooled @ self.p1 + first @ self.d1, 0)
        last = np.tanh(second @ self.p3 + np.maximum(second @ self.d2, 0) @ self.d3)
        return unit(last)


class Table(NamedTuple):
    """Vectors as whole numbers (n, width) and the length of a step of each row (n,)."""

    rows: NDArray[np.int8]
    steps: FloatArray

    @classmethod
    def of(cls, vectors: FloatArray) -> Self:
        """Return the table of `vectors`, each number rounded to 1/127 of the largest in its row."""
        steps = np.maximum(np.abs(vectors).max(axis=1, initial=0), np.float32(1e-9)) / np.float32(127)
        return cls(np.rint(vectors / steps[:, None]).astype(np.int8), steps.astype(np.float32))

    def sum(self, positions: Sequence[int]) -> FloatArray:
        """Return the sum (width,) of the rows at `positions`, each as often as it occurs there."""
        total: FloatArray = self.steps[positions] @ self.rows[positions].astype(np.float32)
        return total


@dataclass(frozen=True)
class StaticEmbedding:
    """Vectors of tokens for the encoder's last layers, and of words for a plain mean.

    `tokenizer` is a document of the package tokenizers; its first token is the unknown one. `tokens` has a row of 512
    for each token, `ends` (512,) is the sum for the encoder's tokens at both ends of a text, and `word_vectors` has a
    row of 128 for each word.
    """

    tokenizer: str
    tokens: Table
    ends: FloatArray
    layers: Layers
    words: tuple[str, ...]
    word_vectors: Table

    @property
    def width(self) -> int:
        """Length of a text's vector."""
        return DIMENSIONS + 2 * self._word_width

    @property
    def _word_width(self) -> int:
        return int(self.word_vectors.rows.shape[1])

    def vectors(self, texts: Sequence[ProductText]) -> FloatArray:
        """Return (n, width): the embedding (512), and mean word vectors of the whole text and of the title (128 each).

        The embedding and the first mean have length 1, the second `TITLE_LENGTH`, or 0 if no token or word is known.
        """
        sums = np.zeros((len(texts), DIMENSIONS), dtype=np.float32)
        counts = np.empty(len(texts), dtype=np.float32)
        titles, others = np.empty((2, len(texts), self._word_width), dtype=np.float32)
        for row, text in enumerate(texts):
            ids = [one for one in self._tokenizer.encode(embedding_input(text), add_special_tokens=False).ids if one]
            if ids:
                sums[row] = self.tokens.sum(ids) + self.ends
            counts[row] = len(ids) + ENDS
            titles[row], others[row] = self._sum_of_words(text.title), self._sum_of_words(text.description)
        return np.concatenate([self.layers.embeddings(sums, counts), word_means(titles, others)], axis=1)

    def _sum_of_words(self, text: str) -> FloatArray:
        return self.word_vectors.sum(
            [self._positions[word] for word in words_of(fold(text)) if word in self._positions]
        )

    @cached_property
    def _tokenizer(self) -> Any:
        from tokenizers import Tokenizer

        return Tokenizer.from_str(self.tokenizer)

    @cached_property
    def _positions(self) -> dict[str, int]:
        return {word: position for position, word in enumerate(self.words)}

    def save(self, folder: Path) -> None:
        """Write tokenizer.json and static.npz."""
        (folder / "tokenizer.json").write_text(self.tokenizer, encoding="utf-8")
        words = np.frombuffer("\n".join(self.words).encode(), dtype=np.uint8)
        np.savez(
            folder / "static.npz",
            tokens=self.tokens.rows,
            token_steps=self.tokens.steps,
            ends=self.ends,
            words=words,
            word_vectors=self.word_vectors.rows,
            word_steps=self.word_vectors.steps,
            **self.layers._asdict(),
        )

    @classmethod
    def load(cls, folder: Path) -> Self:
        """Load what `save` wrote."""
        with np.load(folder / "static.npz", allow_pickle=False) as arrays:
            layers = Layers(*(arrays[name] for name in Layers._fields))
            words = tuple(arrays["words"].tobytes().decode().split("\n")) if len(arrays["words"]) else ()
            tokenizer = (folder / "tokenizer.json").read_text(encoding="utf-8")
            tokens = Table(arrays["tokens"], arrays["token_steps"])
            word_vectors = Table(arrays["word_vectors"], arrays["word_steps"])
            return cls(tokenizer, tokens, arrays["ends"], layers, words, word_vectors)


def word_means(titles: FloatArray, descriptions: FloatArray) -> FloatArray:
    """Return the mean directions (n, 2 * width) of whole text and title for sums of word vectors (n, width)."""
    return np.concatenate([unit(titles + descriptions), TITLE_LENGTH * unit(titles)], axis=1)


def unit(rows: FloatArray) -> FloatArray:
    """Return rows (n, width) scaled to length 1; rows of zeros stay."""
    scaled: FloatArray = rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), np.float32(1e-9))
    return scaled
