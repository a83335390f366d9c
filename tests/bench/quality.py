"""Measure model quality on real products: `python -m tests.bench.quality DATA`.

Every figure is the mean of three seeds; the promise is measured on twelve trainings. All models of a table are
evaluated on the same rows; folds are stratified and keep near-duplicates together. Calibration, fusion and thresholds
are never evaluated on the rows they were fitted to. Exits with 1 if accepted products are less precise than promised.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.svm import LinearSVC

from rayonnage_shared.ml.base.model import Fitting, FloatArray, IntArray, Labels, ModelOutput
from rayonnage_shared.ml.families import fusion_family, image_family, text_family
from rayonnage_shared.ml.families.fusion.weighted import WeightedFusion
from rayonnage_shared.ml.metrics.classification import evaluate
from tests.bench.promise import (
    FUSIONS,
    Trainings,
    of_photos_and_fusions,
    of_text_family,
    print_header,
    print_promise,
)
from tests.bench.real_products import Rows, folds, photo_output, read_products, taken

SEEDS = (0, 1, 2)
TABLES = ("text", "promise", "photo-promise", "fusion")


@dataclass(frozen=True)
class Metrics:
    """One model's out-of-fold metrics for one seed."""

    f1_weighted: float
    f1_macro: float
    ece: float


def main() -> int:
    """Print the tables; return 1 if a mean precision is lower than promised."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=Path, help="folder with text.csv, pairs.csv and images/")
    parser.add_argument("--family", action="append", help="text family; default: all")
    parser.add_argument("--table", action="append", choices=TABLES, help="what to measure; default: all")
    arguments = parser.parse_args()
    families, tables = arguments.family or ["tfidf-embedding", "tfidf-static", "tfidf-svm"], arguments.table or TABLES
    text_rows, pair_rows, codes = read_products(arguments.data)
    print(f"{len(text_rows.texts)} products with text, {len(pair_rows.texts)} pairs, {len(codes)} categories\n")
    kept = True
    with tempfile.TemporaryDirectory(prefix="rayonnage-quality-") as folder:
        cache = Path(folder) / "photo-features.sqlite"
        if "text" in tables:
            _text_table(text_rows, codes, families)
        if "promise" in tables:
            print("## The promise for text: a quarter of text.csv unseen by each of twelve trainings\n")
            found = {f"`{name}`": of_text_family(name, text_rows, codes, SEEDS) for name in families}
            kept = _promise_table(found) and kept
        if "photo-promise" in tables:
            print("## The promise for photos: a quarter of pairs.csv unseen by each of twelve trainings\n")
            found = of_photos_and_fusions(families[0], text_rows, pair_rows, codes, seeds=SEEDS, cache=cache)
            kept = _promise_table(found) and kept
        if "fusion" in tables:
            _fusion_table(text_rows, pair_rows, codes, families[0], cache)
    if not kept:
        print("Accepted products are less precise than promised.", file=sys.stderr)
    return 0 if kept else 1


def _text_table(rows: Rows, codes: tuple[int, ...], families: Sequence[str]) -> None:
    print("## Text: 5 folds of text.csv, out-of-fold rows pooled\n")
    print("| model | weighted F1 | gain | macro F1 | ECE | fit and predict, s |")
    print("|---|---|---|---|---|---|")
    reference = None
    for name, words in (("words 1 + LinearSVC", (1, 1)), ("words 1–2 + LinearSVC", (1, 2))):
        started = time.perf_counter()
        scores = [_baseline(rows, codes, seed, words) for seed in SEEDS]
        weighted = _mean([one.f1_weighted for one in scores])
        reference = max(reference or 0.0, weighted)
        macro = _mean([one.f1_macro for one in scores])
        print(f"| {name} | {weighted:.4f} | | {macro:.4f} | | {time.perf_counter() - started:.0f} |", flush=True)
    for name in families:
        started = time.perf_counter()
        found = [_cross_validate(rows, codes, seed, name) for seed in SEEDS]
        weighted = _mean([one.f1_weighted for one in found])
        gain = 100 * (weighted - (reference or 0.0))
        rest = [_mean([getattr(one, field) for one in found]) for field in ("f1_macro", "ece")]
        cells = " | ".join(f"{value:.4f}" for value in rest)
        seconds = time.perf_counter() - started
        print(f"| {name} | {weighted:.4f} | {gain:+.2f} points | {cells} | {seconds:.0f} |", flush=True)
    print("\nThe gain is relative to the better of the two baselines.\n")


def _promise_table(trainings: Mapping[str, Trainings]) -> bool:
    print_header()
    kept = [print_promise(name, of_model) for name, of_model in trainings.items()]
    print()
    return all(kept)


def _fusion_table(text_rows: Rows, pairs: Rows, codes: tuple[int, ...], family: str, cache: Path) -> None:
    print("## Fusion: a quarter of pairs.csv held out; text trained on text.csv alone, photos on the other pairs\n")
    print("| model | weighted F1 | gain over text | macro F1 | ECE |")
    print("|---|---|---|---|---|")
    found: dict[str, list[Metrics]] = {}
    labels = Labels(text_rows.classes, folds(text_rows, 5, 0), len(codes))
    by_text = text_family(family).fit(text_rows.texts, labels).model.output(pairs.texts)
    for seed in SEEDS:
        is_test = folds(pairs, 4, seed) == 0
        train, test = np.flatnonzero(~is_test), np.flatnonzero(is_test)
        train_rows, truth = pairs.take(train), pairs.classes[test]
        labels = Labels(train_rows.classes, folds(train_rows, 5, seed), len(codes), train_rows.groups)
        photo = image_family("efficientnet-lite0").fit(
            train_rows.photos, labels, Fitting(seed=seed, photo_features=cache)
        )
        assert photo.features is not None
        held_out = ModelOutput(photo.held_out, photo.features)
        by_photo = photo_output(photo.model, pairs.take(test).photos, cache)
        text, photo_text = taken(by_text, test), taken(by_text, train)
        found.setdefault("text", []).append(_metrics(text.probabilities, truth, codes))
        # A fusion also learns that class frequencies differ; this row shows that gain without a photo.
        nothing = _plain(np.full_like(by_text.probabilities, 1 / len(codes)))
        rates = WeightedFusion.fit(_plain(photo_text.probabilities), taken(nothing, train), labels).model
        table = rates.combine(_plain(text.probabilities), taken(nothing, test))
        found.setdefault("text, class rates corrected", []).append(_metrics(table, truth, codes))
        found.setdefault("photo", []).append(_metrics(by_photo.probabilities, truth, codes))
        for name in FUSIONS:
            fitted = fusion_family(name).fit(photo_text, held_out, labels)
            table = fitted.model.combine(text, by_photo)
            found.setdefault(f"fusion, {name}", []).append(_metrics(table, truth, codes))
    text_f1 = _mean([one.f1_weighted for one in found["text"]])
    for name, metrics in found.items():
        weighted, macro, ece = (_mean([getattr(one, f) for one in metrics]) for f in ("f1_weighted", "f1_macro", "ece"))
        gain = f"{100 * (weighted - text_f1):+.2f} points"
        print(f"| {name} | {weighted:.4f} | {gain} | {macro:.4f} | {ece:.4f} |", flush=True)
    print()


def _plain(probabilities: FloatArray) -> ModelOutput:
    return ModelOutput(probabilities, np.empty((len(probabilities), 0), dtype=np.float32))


def _baseline(rows: Rows, codes: tuple[int, ...], seed: int, words: tuple[int, int]) -> Metrics:
    texts = [f"{one.title} {one.description}" for one in rows.texts]

    def fit_predict(train: np.ndarray, test: np.ndarray) -> FloatArray:
        vectorizer = TfidfVectorizer(ngram_range=words)
        model = LinearSVC(random_state=seed)
        model.fit(vectorizer.fit_transform([texts[i] for i in train]), rows.classes[train])
        table = np.zeros((len(test), len(codes)), dtype=np.float32)
        table[np.arange(len(test)), model.predict(vectorizer.transform([texts[i] for i in test]))] = 1
        return table

    table = _pooled(rows, seed, len(codes), fit_predict)
    return _metrics(table, rows.classes, codes)


def _cross_validate(rows: Rows, codes: tuple[int, ...], seed: int, name: str) -> Metrics:
    """Evaluate a family's held-out predictions: those for a row come from a model and calibration without its fold."""
    labels = Labels(rows.classes, folds(rows, 5, seed), len(codes))
    table = text_family(name).fit(rows.texts, labels, Fitting(seed=seed)).held_out
    return _metrics(table, rows.classes, codes)


def _pooled(
    rows: Rows, seed: int, n_classes: int, fit_predict: Callable[[np.ndarray, np.ndarray], FloatArray]
) -> FloatArray:
    numbers = folds(rows, 5, seed)
    table = np.zeros((len(rows.texts), n_classes), dtype=np.float32)
    for fold in range(5):
        test = np.flatnonzero(numbers == fold)
        table[test] = fit_predict(np.flatnonzero(numbers != fold), test)
    return table


def _metrics(table: FloatArray, truth: IntArray, codes: tuple[int, ...]) -> Metrics:
    found = evaluate(table, truth, codes)
    return Metrics(found.f1_weighted, found.f1_macro, found.ece)


def _mean(values: Sequence[float]) -> float:
    return float(np.mean(values))


if __name__ == "__main__":
    sys.exit(main())
