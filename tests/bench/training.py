"""Measure what training a text family costs by the number of products: `python -m tests.bench.training`.

The catalogue is generated: invented words with the frequencies, lengths and share of missing descriptions of the real
one, so nothing is measured of quality. Each size is fitted in a process of its own, which reports its CPU time and its
largest resident memory.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import time

import numpy as np

from rayonnage_shared.ml.base.model import IntArray, Labels, ProductText
from rayonnage_shared.ml.families import text_family

SIZES = (5_300, 21_200, 84_900)
CLASSES = 27
FOLDS = 5
TITLE_WORDS = 11
DESCRIPTION_WORDS = 70  # the median; a title and a description then have 81 words
WITHOUT_DESCRIPTION = 0.35
_SYLLABLES = ("bra", "chi", "con", "de", "fi", "ga", "le", "mar", "no", "pou", "ri", "sel", "ta", "ti", "vo", "ure")
_WORDS = 400_000
_ZIPF = 1.1  # 3,756 products then have about 25,000 distinct words, nearly as many as real ones
_OWN_WORDS = 2_000
_OWN_SHARE = 0.15


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--family", action="append", help="text family; default: tfidf-svm")
    parser.add_argument(
        "--size", action="append", type=int, help="number of products; default: 1, 4 and 16 times 5,300"
    )
    parser.add_argument("--one", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.one:
        print(json.dumps(_measure(arguments.family[0], arguments.size[0])))
        return
    print("| family | products | CPU, s | time, s | peak memory, GB | CPU per product, ms |")
    print("|---|---|---|---|---|---|")
    for family in arguments.family or ["tfidf-svm"]:
        for size in arguments.size or SIZES:
            command = [sys.executable, "-m", "tests.bench.training", "--one", "--family", family, "--size", str(size)]
            found = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
            cells = f"{found['cpu_s']:.0f} | {found['wall_s']:.0f} | {found['peak_gb']:.2f}"
            print(f"| `{family}` | {size:,} | {cells} | {1000 * found['cpu_s'] / size:.2f} |", flush=True)


def catalogue(n: int, seed: int = 0) -> tuple[list[ProductText], IntArray]:
    """Return `n` generated products and their classes (n,)."""
    random = np.random.default_rng(seed)
    words = _words(random)
    classes = random.integers(0, CLASSES, n)
    described = random.random(n) >= WITHOUT_DESCRIPTION
    lengths = np.where(described, np.maximum(DESCRIPTION_WORDS * np.exp(0.8 * random.normal(size=n)), 5), 0).astype(int)
    texts = []
    for own, length in zip(classes, lengths, strict=True):
        drawn = (random.zipf(_ZIPF, TITLE_WORDS + length) - 1) % _WORDS
        is_own = random.random(len(drawn)) < _OWN_SHARE
        drawn[is_own] = 1000 + own * _OWN_WORDS + drawn[is_own] % _OWN_WORDS
        text = [words[position] for position in drawn]
        texts.append(ProductText(" ".join(text[:TITLE_WORDS]), " ".join(text[TITLE_WORDS:])))
    return texts, classes


def _words(random: np.random.Generator) -> list[str]:
    syllables = np.array(_SYLLABLES)
    counts = random.integers(1, 5, _WORDS)
    return ["".join(syllables[random.integers(0, len(syllables), count)]) for count in counts]


def _measure(family: str, size: int) -> dict[str, float]:
    """Fit a family to a generated catalogue; return seconds and GB without those of the generation."""
    texts, classes = catalogue(size)
    labels = Labels(classes, np.arange(size) % FOLDS, CLASSES)
    cpu, wall = _cpu_s(), time.perf_counter()
    text_family(family).fit(texts, labels)
    peak_kib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return {
        "cpu_s": _cpu_s() - cpu,
        "wall_s": time.perf_counter() - wall,
        "peak_gb": peak_kib * 1024 / 1e9,
    }


def _cpu_s() -> float:
    """Return the CPU time of this process and its ended children, s."""
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(one.ru_utime + one.ru_stime for one in used)


if __name__ == "__main__":
    main()
