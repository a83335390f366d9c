"""Clean the texts of an ingest and compute their comparison keys, on all cores if there are many.

Texts of the previous version are not cleaned again, so a catalogue sent in full each week costs only its new rows.
"""

from __future__ import annotations

import hashlib
import multiprocessing
import os
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass

from rayonnage_shared.ml.base.progress import Progress
from rayonnage_shared.ml.catalogue.near_duplicates import TextKeys, joined_keys, text_keys
from rayonnage_shared.ml.features.text import product_text

_AT_ONCE = 2_000
_WORTH_PROCESSES = 8_000  # rows; a text with HTML costs 0.5 ms, starting the processes 1 to 2 s

RawText = tuple[str, str]
"""Designation and description as sent."""


@dataclass(frozen=True, slots=True)
class KnownTexts:
    """Known texts: index into `hashes` and `keys` by the text as sent."""

    positions: Mapping[RawText, int]
    hashes: Sequence[str]
    keys: TextKeys


def prepare_texts(texts: Sequence[RawText], known: KnownTexts, progress: Progress) -> tuple[list[str], TextKeys]:
    """Return the hash of each cleaned text, "" for an empty one, and the keys of all."""
    unseen = list(dict.fromkeys(text for text in texts if text not in known.positions))
    hashes: list[str] = []
    keys: list[TextKeys] = []
    for part_hashes, part_keys in _prepared(unseen):
        hashes += part_hashes
        keys.append(part_keys)
        progress(len(hashes) / len(unseen), f"{len(hashes)} of {len(unseen)} texts cleaned")
    n_known = len(known.hashes)
    position_of = {text: n_known + i for i, text in enumerate(unseen)}
    positions = [known.positions.get(text, -1) for text in texts]
    positions = [position_of[text] if at < 0 else at for text, at in zip(texts, positions, strict=True)]
    all_hashes = [*known.hashes, *hashes]
    return [all_hashes[at] for at in positions], joined_keys([known.keys, *keys]).take(positions)


def _prepared(texts: Sequence[RawText]) -> Iterator[tuple[list[str], TextKeys]]:
    parts = [texts[start : start + _AT_ONCE] for start in range(0, len(texts), _AT_ONCE)]
    cores = os.cpu_count() or 1
    if len(texts) < _WORTH_PROCESSES or cores == 1:
        yield from map(_prepare, parts)
        return
    # Spawned, not forked: the caller may have threads.
    with ProcessPoolExecutor(min(cores, 8), mp_context=multiprocessing.get_context("spawn")) as pool:
        yield from pool.map(_prepare, parts)


def _prepare(texts: Sequence[RawText]) -> tuple[list[str], TextKeys]:
    cleaned = [product_text(designation, description) for designation, description in texts]
    hashes = [_hash(f"{text.title}\0{text.description}") if any(text) else "" for text in cleaned]
    return hashes, text_keys(cleaned)


def _hash(text: str) -> str:
    return hashlib.blake2b(text.encode(), digest_size=16).hexdigest()
