"""Measure the promise on real products: precision and coverage of accepted products that a training has not seen.

Each family is trained twelve times: on three quarters of the products, with three seeds, and the fourth quarter is
unseen. Thresholds are those that the training would put into a bundle.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from rayonnage_shared.ml.base.model import Fitting, FloatArray, IntArray, Labels, ModelOutput
from rayonnage_shared.ml.calibration.thresholds import Decisions, Mode
from rayonnage_shared.ml.evaluation.selective import PROMISES
from rayonnage_shared.ml.families import fusion_family, image_family, text_family
from tests.bench.real_products import Rows, folds, photo_output, taken

QUARTERS = 4
FIRST_SPLIT = 1000  # splits other than those that chose the families' parameters
FUSIONS = ("weighted", "concatenate")


@dataclass(frozen=True, slots=True)
class Accepted:
    """What one training accepts among the products it has not seen; `precision` is NaN if that is nothing."""

    coverage: float
    precision: float


Trainings = Sequence[Mapping[float, Accepted]]
"""For each training, what it accepts by the precision promised."""


def of_text_family(family: str, rows: Rows, codes: tuple[int, ...], seeds: Sequence[int]) -> Trainings:
    """Return what trainings of a text family accept in unseen quarters of `rows`."""
    found = []
    for seed, learn, unseen in _quarters(rows, seeds):
        labels = Labels(learn.classes, folds(learn, 5, seed), len(codes), learn.groups)
        fitted = text_family(family).fit(learn.texts, labels, Fitting(seed=seed))
        table = fitted.model.output(unseen.texts).probabilities
        found.append(accepted("text", fitted.held_out, labels, table, unseen.classes))
    return found


def of_photos_and_fusions(
    family: str, texts: Rows, pairs: Rows, codes: tuple[int, ...], *, seeds: Sequence[int], cache: Path
) -> dict[str, Trainings]:
    """Return what the photo model and each fusion accept in unseen quarters of `pairs`, by a name for the table.

    The text `family` learns from `texts` alone, since the labels of the pairs come from text models. `cache` keeps the
    features of photos.
    """
    labels = Labels(texts.classes, folds(texts, 5, 0), len(codes), texts.groups)
    by_text = text_family(family).fit(texts.texts, labels).model.output(pairs.texts)
    found: dict[str, list[Mapping[float, Accepted]]] = {}
    for seed, learn, unseen in _quarters(pairs, seeds):
        labels = Labels(learn.classes, folds(learn, 5, seed), len(codes), learn.groups)
        photo = image_family("efficientnet-lite0").fit(learn.photos, labels, Fitting(seed=seed, photo_features=cache))
        assert photo.features is not None
        held_out = ModelOutput(photo.held_out, photo.features)
        by_photo = photo_output(photo.model, unseen.photos, cache)
        of_photo = accepted("image", photo.held_out, labels, by_photo.probabilities, unseen.classes)
        found.setdefault("photo alone", []).append(of_photo)
        for name in FUSIONS:
            fitted = fusion_family(name).fit(taken(by_text, learn.positions), held_out, labels)
            table = fitted.model.combine(taken(by_text, unseen.positions), by_photo)
            of_fusion = accepted("both", fitted.held_out, labels, table, unseen.classes)
            found.setdefault(f"fusion `{name}` with `{family}`", []).append(of_fusion)
    return dict(found)


def accepted(
    mode: Mode, held_out: FloatArray, labels: Labels, table: FloatArray, truth: IntArray
) -> dict[float, Accepted]:
    """Return what is accepted of a table (n, n_classes), with thresholds fitted to held-out training rows."""
    correct = table.argmax(axis=1) == truth
    found = {}
    for promised in PROMISES:
        decisions = Decisions.fit({mode: held_out}, labels.classes, promised, labels.folds)
        rows = decisions.accepted(mode, table)
        found[promised] = Accepted(float(rows.mean()), float(correct[rows].mean()) if rows.any() else float("nan"))
    return found


def print_header() -> None:
    """Print the head of the table whose rows `print_promise` prints."""
    print("| model | promised | coverage | precision | lowest | trainings that kept it |")
    print("|---|---|---|---|---|---|")


def print_promise(model: str, trainings: Trainings) -> bool:
    """Print a row for each promise: means over the trainings, the precision with its standard error.

    Return whether the mean precision is at least the promise in each. A training that accepts nothing breaks none.
    """
    kept = True
    for promised in PROMISES:
        coverage = np.array([one[promised].coverage for one in trainings])
        reached = np.array([one[promised].precision for one in trainings])[coverage > 0]
        share = f"{len(trainings) - int((reached < promised).sum())} of {len(trainings)}"
        cells = "none accepted | "
        if len(reached):
            kept = kept and bool(reached.mean() >= promised)
            error = f" ± {reached.std(ddof=1) / np.sqrt(len(reached)):.3f}" if len(reached) > 1 else ""
            cells = f"{reached.mean():.3f}{error} | {reached.min():.3f}"
        print(f"| {model} | {promised:.2f} | {coverage.mean():.3f} | {cells} | {share} |", flush=True)
    return kept


def _quarters(rows: Rows, seeds: Sequence[int]) -> Iterator[tuple[int, Rows, Rows]]:
    """Yield the seed, the rows to learn from and the unseen rows of each training."""
    for seed in seeds:
        numbers = folds(rows, QUARTERS, FIRST_SPLIT + seed)
        for quarter in range(QUARTERS):
            is_unseen = numbers == quarter
            yield seed, rows.take(np.flatnonzero(~is_unseen)), rows.take(np.flatnonzero(is_unseen))
