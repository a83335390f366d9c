"""Measure model quality on real products: `python -m tests.bench.quality DATA`.

Every figure is the mean of three seeds; the promise is measured on twelve trainings. All models of a table are
evaluated on the same rows; folds are stratified and keep near-duplicates together. Calibration, fusion and thresholds
are never evaluated on the rows they were fitted to.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.svm import LinearSVC

from rayonnage_shared.ml.base.model import Fitting, FloatArray, ImageModel, IntArray, Labels, ModelOutput
from rayonnage_shared.ml.calibration.thresholds import Decisions, Mode
from rayonnage_shared.ml.evaluation.selective import PROMISES
from rayonnage_shared.ml.families import fusion_family, image_family, text_family
from rayonnage_shared.ml.families.fusion.weighted import WeightedFusion
from rayonnage_shared.ml.features.photos import PhotoLimits, read_photo
from rayonnage_shared.ml.metrics.classification import evaluate
from tests.bench.real_products import Rows, folds, read_products

SEEDS = (0, 1, 2)
TABLES = ("text", "promise", "fusion")
Accepted = dict[float, tuple[float, float]]  # coverage and precision reached, by the precision promised


@dataclass(frozen=True)
class Metrics:
    """One model's out-of-fold metrics for one seed."""

    f1_weighted: float
    f1_macro: float
    ece: float
    accepted: Accepted


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=Path, help="folder with text.csv, pairs.csv and images/")
    parser.add_argument("--family", action="append", help="text family; default: all")
    parser.add_argument("--table", action="append", choices=TABLES, help="what to measure; default: all")
    arguments = parser.parse_args()
    families, tables = arguments.family or ["tfidf-embedding", "tfidf-svm"], arguments.table or TABLES
    text_rows, pair_rows, codes = read_products(arguments.data)
    print(f"{len(text_rows.texts)} products with text, {len(pair_rows.texts)} pairs, {len(codes)} categories\n")
    if "text" in tables:
        _text_table(text_rows, codes, families)
    if "promise" in tables:
        _promise_table(text_rows, codes, families)
    if "fusion" in tables:
        _fusion_table(text_rows, pair_rows, codes)


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


def _promise_table(rows: Rows, codes: tuple[int, ...], families: Sequence[str]) -> None:
    print("## The promise: a quarter of text.csv held out from each of twelve trainings\n")
    found = {name: [one for seed in SEEDS for one in _unseen_quarters(rows, codes, seed, name)] for name in families}
    _selective_table(found)


def _unseen_quarters(rows: Rows, codes: tuple[int, ...], seed: int, name: str) -> list[Accepted]:
    # Other splits than those that chose the families' parameters.
    quarters = folds(rows, 4, 1000 + seed)
    found = []
    for quarter in range(4):
        learn, unseen = rows.take(np.flatnonzero(quarters != quarter)), rows.take(np.flatnonzero(quarters == quarter))
        labels = Labels(learn.classes, folds(learn, 5, seed), len(codes), learn.groups)
        fitted = text_family(name).fit(learn.texts, labels, Fitting(seed=seed))
        table = fitted.model.output(unseen.texts).probabilities
        found.append(_accepted("text", fitted.held_out, labels, table, unseen.classes))
    return found


def _fusion_table(text_rows: Rows, pairs: Rows, codes: tuple[int, ...]) -> None:
    print("## Fusion: a quarter of pairs.csv held out; text trained on text.csv alone, photos on the other pairs\n")
    print("| model | weighted F1 | gain over text | macro F1 | ECE |")
    print("|---|---|---|---|---|")
    found: dict[str, list[Metrics]] = {}
    labels = Labels(text_rows.classes, folds(text_rows, 5, 0), len(codes))
    by_text = text_family("tfidf-embedding").fit(text_rows.texts, labels).model.output(pairs.texts)
    for seed in SEEDS:
        is_test = folds(pairs, 4, seed) == 0
        train, test = np.flatnonzero(~is_test), np.flatnonzero(is_test)
        train_rows, truth = pairs.take(train), pairs.classes[test]
        labels = Labels(train_rows.classes, folds(train_rows, 5, seed), len(codes), train_rows.groups)
        photo = image_family("efficientnet-lite0").fit(train_rows.photos, labels, Fitting(seed=seed))
        assert photo.features is not None
        held_out = ModelOutput(photo.held_out, photo.features)
        by_photo = _photo_output(photo.model, [pairs.photos[i] for i in test])
        text, photo_text = _taken(by_text, test), _taken(by_text, train)
        found.setdefault("text", []).append(_metrics(text.probabilities, truth, codes, {}))
        # A fusion also learns that class frequencies differ; this row shows that gain without a photo.
        nothing = _plain(np.full_like(by_text.probabilities, 1 / len(codes)))
        rates = WeightedFusion.fit(_plain(photo_text.probabilities), _taken(nothing, train), labels).model
        table = rates.combine(_plain(text.probabilities), _taken(nothing, test))
        found.setdefault("text, class rates corrected", []).append(_metrics(table, truth, codes, {}))
        accepted = _accepted("image", photo.held_out, labels, by_photo.probabilities, truth)
        found.setdefault("photo", []).append(_metrics(by_photo.probabilities, truth, codes, accepted))
        for name in ("weighted", "concatenate"):
            fitted = fusion_family(name).fit(photo_text, held_out, labels)
            table = fitted.model.combine(text, by_photo)
            accepted = _accepted("both", fitted.held_out, labels, table, truth)
            found.setdefault(f"fusion, {name}", []).append(_metrics(table, truth, codes, accepted))
    text_f1 = _mean([one.f1_weighted for one in found["text"]])
    for name, metrics in found.items():
        weighted, macro, ece = (_mean([getattr(one, f) for one in metrics]) for f in ("f1_weighted", "f1_macro", "ece"))
        gain = f"{100 * (weighted - text_f1):+.2f} points"
        print(f"| {name} | {weighted:.4f} | {gain} | {macro:.4f} | {ece:.4f} |", flush=True)
    print()
    judged = {name: [one.accepted for one in metrics] for name, metrics in found.items()}
    _selective_table({name: trainings for name, trainings in judged.items() if trainings[0]})


def _selective_table(found: dict[str, list[Accepted]]) -> None:
    """Print coverage and precision on products unseen by the training; `found` has an entry for each training."""
    print("| model | promised precision | coverage | precision reached | lowest | trainings that kept it |")
    print("|---|---|---|---|---|---|")
    for name, trainings in found.items():
        for promised in PROMISES:
            coverage, precision = np.array([one[promised] for one in trainings]).T
            reached = precision[coverage > 0]  # where nothing is accepted, no promise is broken
            kept = f"{len(trainings) - int((reached < promised).sum())} of {len(trainings)}"
            cells = f"{reached.mean():.3f} | {reached.min():.3f}" if len(reached) else "none accepted | "
            print(f"| {name} | {promised:.2f} | {coverage.mean():.3f} | {cells} | {kept} |", flush=True)
    print()


def _plain(probabilities: FloatArray) -> ModelOutput:
    return ModelOutput(probabilities, np.empty((len(probabilities), 0), dtype=np.float32))


def _taken(output: ModelOutput, rows: np.ndarray) -> ModelOutput:
    return ModelOutput(output.probabilities[rows], output.features[rows])


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
    return _metrics(table, rows.classes, codes, {})


def _cross_validate(rows: Rows, codes: tuple[int, ...], seed: int, name: str) -> Metrics:
    """Evaluate a family's held-out predictions: those for a row come from a model and calibration without its fold."""
    labels = Labels(rows.classes, folds(rows, 5, seed), len(codes))
    table = text_family(name).fit(rows.texts, labels, Fitting(seed=seed)).held_out
    return _metrics(table, rows.classes, codes, {})


def _accepted(mode: Mode, held_out: FloatArray, labels: Labels, table: FloatArray, truth: IntArray) -> Accepted:
    """Return coverage and precision on held-out products, with thresholds fitted to held-out training rows."""
    correct = table.argmax(axis=1) == truth
    found = {}
    for promised in PROMISES:
        decisions = Decisions.fit({mode: held_out}, labels.classes, promised, labels.folds)
        found[promised] = _rates(decisions.accepted(mode, table), correct)
    return found


def _rates(accepted: np.ndarray, correct: np.ndarray) -> tuple[float, float]:
    return float(accepted.mean()), float(correct[accepted].mean()) if accepted.any() else float("nan")


def _pooled(
    rows: Rows, seed: int, n_classes: int, fit_predict: Callable[[np.ndarray, np.ndarray], FloatArray]
) -> FloatArray:
    numbers = folds(rows, 5, seed)
    table = np.zeros((len(rows.texts), n_classes), dtype=np.float32)
    for fold in range(5):
        test = np.flatnonzero(numbers == fold)
        table[test] = fit_predict(np.flatnonzero(numbers != fold), test)
    return table


def _metrics(table: FloatArray, truth: IntArray, codes: tuple[int, ...], accepted: Accepted) -> Metrics:
    found = evaluate(table, truth, codes)
    return Metrics(found.f1_weighted, found.f1_macro, found.ece, accepted)


def _photo_output(model: ImageModel, photos: Sequence[Path]) -> ModelOutput:
    limits = PhotoLimits()
    found = [model.output(read_photo(photo.read_bytes(), model.input_size, limits)[None]) for photo in photos]
    return ModelOutput(*(np.concatenate(parts) for parts in zip(*found, strict=True)))


def _mean(values: Sequence[float]) -> float:
    return float(np.mean(values))


if __name__ == "__main__":
    main()
