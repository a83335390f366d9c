"""Character 3- and 4-grams as integers, so that NumPy finds all those of a text at once.

The characters of a vocabulary are numbered from 1 with 16 bits, and a key holds up to four numbers, the first one in
the lowest bits. A 3-gram has no fourth number, so no two n-grams have the same key.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from rayonnage_shared.ml.base.model import IntArray

Keys = NDArray[np.uint64]

_ENCODING = "utf-32-le"
_BITS = 16
_OUTSIDE = (1 << _BITS) - 1
_SHIFTS = tuple(np.uint64(_BITS * place) for place in range(4))


class Alphabet:
    """The numbers of the characters that occur in `text`. Raises ValueError for more than 65,534 of them."""

    def __init__(self, text: str) -> None:
        self._characters = np.unique(_code_points(text))
        if len(self._characters) >= _OUTSIDE:
            raise ValueError(f"{len(self._characters)} different characters; at most {_OUTSIDE - 1} can be numbered.")
        # The last entry is for all code points beyond.
        self._numbers = np.full(int(self._characters.max(initial=0)) + 2, _OUTSIDE, dtype=np.uint64)
        self._numbers[self._characters] = np.arange(1, len(self._characters) + 1, dtype=np.uint64)

    def keys(self, text: str) -> Keys:
        """Return the keys of all 3-grams of `text` in order, and then those of its 4-grams."""
        numbers = self._numbers.take(_code_points(text), mode="clip")
        ends = max(len(numbers) - 2, 0)
        threes = _packed([numbers[place : ends + place] for place in range(3)])
        fours = threes[:-1] | numbers[3:] << _SHIFTS[3]
        return np.concatenate([threes, fours])

    def keys_of(self, grams: Sequence[str]) -> Keys:
        """Return the key of each of `grams`, which have 3 or 4 characters."""
        numbers = self._numbers.take(_code_points("".join(grams)), mode="clip")
        lengths = np.fromiter(map(len, grams), dtype=np.int64, count=len(grams))
        starts = np.cumsum(lengths) - lengths
        keys = _packed([numbers[starts + place] for place in range(3)])
        fours = lengths == 4
        keys[fours] |= numbers[starts[fours] + 3] << _SHIFTS[3]
        return keys

    def grams_of(self, keys: Keys) -> list[str]:
        """Return the n-gram of each key."""
        numbers = np.stack([(keys >> shift) & np.uint64(_OUTSIDE) for shift in _SHIFTS], axis=1).astype(np.int64)
        characters = self._characters[numbers[numbers > 0] - 1].tobytes().decode(_ENCODING, "surrogatepass")
        ends = np.cumsum((numbers > 0).sum(axis=1)).tolist()
        return [characters[start:end] for start, end in zip([0, *ends], ends, strict=False)]


class CharacterGrams:
    """The character n-grams of a vocabulary, found in a text by binary search."""

    def __init__(self, grams: Sequence[str]) -> None:
        self._alphabet = Alphabet("".join(grams))
        keys = self._alphabet.keys_of(grams)
        self._positions = np.argsort(keys)
        self._keys = keys[self._positions]

    def count(self, folded: str) -> tuple[IntArray, IntArray]:
        """Return the positions of the n-grams that a folded text contains, and how often it does.

        White space counts as one space, also at both ends.
        """
        keys = self._alphabet.keys(f" {' '.join(folded.split())} ")
        keys.sort()  # sorted, 500 keys are found in 40 µs instead of 70
        places = self._keys.searchsorted(keys)
        found = places[self._keys.take(places, mode="clip") == keys] if len(self._keys) else places[:0]
        edges = np.ones(len(found) + 1, dtype=np.bool_)
        np.not_equal(found[1:], found[:-1], out=edges[1:-1])
        starts = np.flatnonzero(edges)
        return self._positions[found[starts[:-1]]], np.diff(starts)


class ChunkGrams(NamedTuple):
    """The n-grams of chunks: pairs of a chunk (n,) and an n-gram (n,), with repeats, and the key of each n-gram."""

    chunks: IntArray
    grams: IntArray
    keys: Keys


def grams_of_chunks(chunks: Sequence[str], alphabet: Alphabet) -> ChunkGrams:
    """Return the n-grams of each chunk with one space on each side (`char_wb`)."""
    keys = alphabet.keys("".join(f" {chunk} " for chunk in chunks))
    owner = np.repeat(np.arange(len(chunks)), np.fromiter(map(len, chunks), dtype=np.int64, count=len(chunks)) + 2)
    threes = owner[: len(owner) - 2] == owner[2:]
    fours = owner[: len(owner) - 3] == owner[3:]
    inside = np.concatenate([threes, fours])
    starts = np.concatenate([owner[: len(threes)], owner[: len(fours)]])
    distinct, grams = np.unique(keys[inside], return_inverse=True)
    return ChunkGrams(starts[inside], grams, distinct)


def _packed(numbers: Sequence[Keys]) -> Keys:
    """Return keys of the numbers of the first characters, of the second ones, and so on."""
    first, *others = numbers
    keys = first.copy()
    for shift, number in zip(_SHIFTS[1:], others, strict=False):
        keys |= number << shift
    return keys


def _code_points(text: str) -> NDArray[np.uint32]:
    return np.frombuffer(text.encode(_ENCODING, "surrogatepass"), dtype=np.uint32)
