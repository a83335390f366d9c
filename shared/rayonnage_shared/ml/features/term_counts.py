"""N-gram counts for training: one pass over the texts, then TF-IDF for any subset of rows.

A character n-gram never crosses white space, so the counts of a text are the sum over its chunks. Each distinct chunk
is processed once, and one sparse product does the rest (`CountVectorizer` processes every chunk of every text).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Self

import numpy as np
from scipy import sparse

from rayonnage_shared.ml.base.model import IntArray
from rayonnage_shared.ml.features.character_grams import Alphabet, grams_of_chunks
from rayonnage_shared.ml.features.tfidf import Tfidf, Vocabulary, fold, words_of

Sparse = Any  # scipy.sparse has no types


@dataclass(frozen=True, slots=True)
class TermBlock:
    """`counts` (n, n_terms) CSR float32, 1 + log(count), and the terms of its columns."""

    counts: Sparse
    terms: list[str]
    min_rows: int

    def weighted(self, rows: IntArray) -> tuple[Vocabulary, Sparse]:
        """Return idf fitted on `rows` alone, and the weighted counts of all rows, each of length 1.

        A term in fewer than `min_rows` of `rows` has weight 0.
        """
        counts = self.counts
        chosen = counts if len(rows) == counts.shape[0] else counts[rows]
        frequency = np.bincount(chosen.indices, minlength=len(self.terms))
        idf = np.log((1 + len(rows)) / (1 + frequency)) + 1
        idf[frequency < self.min_rows] = 0
        idf = idf.astype(np.float32)
        values = counts.data * idf[counts.indices]
        # An extra empty row keeps reduceat within bounds; for empty rows it returns the next value.
        squares = np.add.reduceat(np.append(values * values, np.float32(0)), counts.indptr[:-1])
        lengths = np.sqrt(np.where(squares > 0, squares, 1))
        values /= np.repeat(lengths, np.diff(counts.indptr))
        matrix = sparse.csr_array((values, counts.indices, counts.indptr), shape=counts.shape, copy=False)
        return Vocabulary(self.terms, idf), matrix

    def part(self, rows: IntArray, learned: int) -> TermBlock:
        """Return the counts of `rows`, restricted to terms with weight when fitted on the first."""
        counts = self.counts[rows]
        frequency = np.bincount(counts[:learned].indices, minlength=len(self.terms))
        kept = np.flatnonzero(frequency >= self.min_rows)
        return TermBlock(counts[:, kept], [self.terms[position] for position in kept], self.min_rows)


@dataclass(frozen=True, slots=True)
class TermCounts:
    """The n-grams of a set of texts."""

    words: TermBlock
    characters: TermBlock

    @classmethod
    def of(cls, texts: Sequence[str], *, min_rows: int, max_terms: int) -> Self:
        """Count n-grams that occur in at least `min_rows` texts, at most the `max_terms` most frequent per block."""
        folded = [fold(text) for text in texts]
        return cls(
            _block(*_word_grams(folded, min_rows), min_rows=min_rows, max_terms=max_terms),
            _block(*_character_grams(folded), min_rows=min_rows, max_terms=max_terms),
        )

    def weighted(self, rows: IntArray) -> tuple[Tfidf, list[Sparse]]:
        """Return features fitted on `rows` alone, and the matrices (n, n_terms) of words and characters of all rows."""
        words, word_matrix = self.words.weighted(rows)
        characters, character_matrix = self.characters.weighted(rows)
        return Tfidf(words, characters), [word_matrix, character_matrix]

    def part(self, rows: IntArray, learned: int) -> TermCounts:
        """Return the counts of `rows`, of which the first `learned` are fitted on: a smaller problem."""
        return TermCounts(self.words.part(rows, learned), self.characters.part(rows, learned))


def _block(counts: Sparse, names_of: Callable[[IntArray], list[str]], *, min_rows: int, max_terms: int) -> TermBlock:
    """Return the frequent columns of `counts`; `names_of` returns the terms of columns."""
    frequency = np.bincount(counts.indices, minlength=counts.shape[1])
    kept = np.flatnonzero(frequency >= min_rows)
    if len(kept) > max_terms:
        kept = np.sort(kept[np.argsort(-frequency[kept], kind="stable")[:max_terms]])
    counts = counts[:, kept]
    counts.sort_indices()
    counts.data = (1 + np.log(counts.data)).astype(np.float32)
    return TermBlock(counts, names_of(kept), min_rows)


def _numbered(lists: Iterable[list[str]]) -> tuple[IntArray, IntArray, list[str]]:
    """Return the row and the index of each string, and the distinct strings by index."""
    numbers: dict[str, int] = {}
    flat: list[int] = []
    lengths: list[int] = []
    for strings in lists:
        flat.extend([numbers.setdefault(one, len(numbers)) for one in strings])
        lengths.append(len(strings))
    rows = np.repeat(np.arange(len(lengths)), lengths)
    return rows, np.array(flat, dtype=np.int64), list(numbers)


def _counted(rows: IntArray, columns: IntArray, shape: tuple[int, int]) -> Sparse:
    # 32-bit positions halve the memory, and scikit-learn's solvers require them.
    pairs = rows.astype(np.int32), columns.astype(np.int32)
    matrix = sparse.coo_array((np.ones(len(rows), dtype=np.float32), pairs), shape=shape).tocsr()
    matrix.sum_duplicates()
    return matrix


def _word_grams(folded: list[str], min_rows: int) -> tuple[Sparse, Callable[[IntArray], list[str]]]:
    rows, words, names = _numbered(words_of(text) for text in folded)
    single = _counted(rows, words, (len(folded), len(names)))
    starts = np.flatnonzero(rows[1:] == rows[:-1])
    keys, pairs, repeats = np.unique(
        words[starts] * len(names) + words[starts + 1], return_inverse=True, return_counts=True
    )
    common = repeats >= min_rows  # most pairs occur once: drop them before building names
    positions = np.cumsum(common) - 1
    kept = common[pairs]
    double = _counted(rows[starts[kept]], positions[pairs[kept]], (len(folded), int(common.sum())))
    first, second = np.divmod(keys[common], max(len(names), 1))
    terms = names + [f"{names[a]} {names[b]}" for a, b in zip(first, second, strict=True)]
    return sparse.hstack([single, double], format="csr"), lambda kept: [terms[column] for column in kept]


def _character_grams(folded: list[str]) -> tuple[Sparse, Callable[[IntArray], list[str]]]:
    rows, chunks, names = _numbered(text.split() for text in folded)
    texts = _counted(rows, chunks, (len(folded), len(names)))
    alphabet = Alphabet("".join([" ", *names]))
    found = grams_of_chunks(names, alphabet)
    counts = texts @ _counted(found.chunks, found.grams, (len(names), len(found.keys)))
    return counts, lambda kept: alphabet.grams_of(found.keys[kept])
