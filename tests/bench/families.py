"""Compare all families and fusions on the same real products: `python -m tests.bench.families DATA` prints one table.

Text families are trained on four fifths of text.csv and evaluated on the rest. Photo families and fusions are trained
on three quarters of pairs.csv and evaluated on the rest; the text model of the fusions is trained on text.csv alone.
Each model is trained with one seed; `tests.bench.quality` is more precise, with three seeds.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from rayonnage_shared.ml.base.model import (
    Family,
    Fitted,
    Fitting,
    FloatArray,
    Fusion,
    ImageModel,
    IntArray,
    Labels,
    ModelOutput,
    Pixels,
    TextModel,
)
from rayonnage_shared.ml.families import fusion_family, image_family, text_family
from rayonnage_shared.ml.features.photos import PhotoLimits, read_photo
from rayonnage_shared.ml.metrics.classification import evaluate
from tests.bench.real_products import Rows, folds, read_products

SEED = 0
TIMED = 100
Parameters = Mapping[str, float | int | str | bool]
FROM_NOTHING: Parameters = {"weights": "none", "epochs": 12, "learning_rate": 1e-3}
TEXT: tuple[tuple[str, str, Parameters], ...] = (
    ("`tfidf-svm`", "tfidf-svm", {}),
    ("`tfidf-embedding` (default)", "tfidf-embedding", {}),
    ("`tfidf-static`", "tfidf-static", {}),
    ("`lstm`", "lstm", {}),
    ("`lstm`, int8", "lstm", {"precision": "int8"}),
    (
        "`camembert`, small, without pretrained weights",
        "camembert",
        {"weights": "none", "epochs": 12, "learning_rate": 1e-3},
    ),
)
WITHOUT_WEIGHTS: Parameters = {"weights": "none", "input_size": 64, "epochs": 5}
IMAGE: tuple[tuple[str, str, Parameters], ...] = (
    ("`efficientnet-lite0` (default)", "efficientnet-lite0", {}),
    ("`efficientnet-lite0`, int8", "efficientnet-lite0", {"precision": "int8"}),
    ("`vgg16`, 64 px, without ImageNet weights", "vgg16", WITHOUT_WEIGHTS),
    ("`resnet50`, 64 px, without ImageNet weights", "resnet50", WITHOUT_WEIGHTS),
)


@dataclass(frozen=True)
class Evaluation:
    """The evaluation of one model: a row of the table."""

    name: str
    rows: int
    train_s: float
    probabilities: FloatArray
    truth: IntArray
    ms: float
    size: int
    note: str = ""

    def line(self, codes: tuple[int, ...]) -> str:
        """Return the table's row."""
        found = evaluate(self.probabilities, self.truth, codes)
        metrics = f"{found.f1_weighted:.3f} | {found.f1_macro:.3f} | {found.ece:.3f}"
        return f"| {self.name} | {self.train_s:.0f} | {metrics} | {self.ms:.2f} | {self.size / 1e6:.1f} | {self.note} |"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=Path, help="folder with text.csv, pairs.csv and images/")
    parser.add_argument("--only", action="append", help="family or fusion; default: all")
    arguments = parser.parse_args()
    texts, pairs, codes = read_products(arguments.data)
    wanted = set(arguments.only or ())
    print("| model | training, s | weighted F1 | macro F1 | calibration error | ms per product | MB | note |")
    print("|---|---|---|---|---|---|---|---|", flush=True)
    for name, family, parameters in TEXT:
        if not wanted or family in wanted:
            print(_text(name, family, parameters, texts, codes).line(codes), flush=True)
    for name, family, parameters in IMAGE:
        if not wanted or family in wanted:
            print(_photo(name, family, parameters, pairs, codes)[0].line(codes), flush=True)
    if not wanted or "fusion" in wanted:
        for evaluation in _fusions(texts, pairs, codes):
            print(evaluation.line(codes), flush=True)


def _text(name: str, family: str, parameters: Parameters, rows: Rows, codes: tuple[int, ...]) -> Evaluation:
    test = folds(rows, 5, SEED) == 0
    train, held_out = rows.take(np.flatnonzero(~test)), rows.take(np.flatnonzero(test))
    fitted, seconds = _fit_text(family, parameters, train, codes)
    model = fitted.model
    table = np.concatenate([model.predict_proba([text]) for text in held_out.texts])
    ms = _median_ms([lambda text=text: model.output([text]) for text in held_out.texts[:TIMED]])
    return Evaluation(
        name, len(held_out.texts), seconds, table, held_out.classes, ms, _size(model), _note(fitted.facts)
    )


def _photo(
    name: str, family: str, parameters: Parameters, rows: Rows, codes: tuple[int, ...]
) -> tuple[Evaluation, Fitted[ImageModel], ModelOutput]:
    test = folds(rows, 4, SEED) == 0
    train, held_out = rows.take(np.flatnonzero(~test)), rows.take(np.flatnonzero(test))
    with tempfile.TemporaryDirectory() as folder:
        started = time.perf_counter()
        fitted = image_family(family).fit(
            train.photos, _labels(train, codes), Fitting(dict(parameters), SEED, checkpoints=Path(folder))
        )
        seconds = time.perf_counter() - started
    model = fitted.model
    output = _photo_output(model, held_out.photos)
    pixels = [_pixels(model, photo) for photo in held_out.photos[:TIMED]]
    ms = _median_ms([lambda one=one: model.output(one) for one in pixels])
    evaluation = Evaluation(
        name,
        len(held_out.photos),
        seconds,
        output.probabilities,
        held_out.classes,
        ms,
        _size(model),
        _note(fitted.facts),
    )
    return evaluation, fitted, output


def _fusions(texts: Rows, pairs: Rows, codes: tuple[int, ...]) -> list[Evaluation]:
    test = folds(pairs, 4, SEED) == 0
    train, held_out = pairs.take(np.flatnonzero(~test)), pairs.take(np.flatnonzero(test))
    by_text, text_s = _fit_text("tfidf-embedding", {}, texts, codes)
    photo, by_photo, photo_output = _photo("`efficientnet-lite0`", "efficientnet-lite0", {}, pairs, codes)
    text_train, text_output = by_text.model.output(train.texts), by_text.model.output(held_out.texts)
    photo_train = ModelOutput(by_photo.held_out, _features(by_photo, train.photos))
    rows, truth = len(held_out.texts), held_out.classes
    alone_ms = _median_ms([lambda one=one: by_text.model.output([one]) for one in held_out.texts[:TIMED]])
    alone = _size(by_text.model)
    evaluations = [
        Evaluation("`tfidf-embedding` on those pairs", rows, text_s, text_output.probabilities, truth, alone_ms, alone)
    ]
    for name in ("weighted", "concatenate"):
        started = time.perf_counter()
        fusion = fusion_family(name).fit(text_train, photo_train, _labels(train, codes)).model
        seconds = time.perf_counter() - started
        ms = alone_ms + photo.ms + _median_ms(_combinations(fusion, text_output, photo_output))
        size = alone + photo.size + _size(fusion)
        table = fusion.combine(text_output, photo_output)
        title = f"`{name}`" + (" (default)" if name == "weighted" else "")
        evaluations.append(Evaluation(title, rows, text_s + photo.train_s + seconds, table, truth, ms, size))
    return evaluations


def _combinations(fusion: Fusion, text: ModelOutput, image: ModelOutput) -> list[Any]:
    def one(row: int) -> Any:
        outputs = [
            ModelOutput(whole.probabilities[row : row + 1], whole.features[row : row + 1]) for whole in (text, image)
        ]
        return lambda: fusion.combine(*outputs)

    return [one(row) for row in range(TIMED)]


def _fit_text(
    family: str, parameters: Parameters, rows: Rows, codes: tuple[int, ...]
) -> tuple[Fitted[TextModel], float]:
    with tempfile.TemporaryDirectory() as folder:
        started = time.perf_counter()
        fitting = Fitting(dict(parameters), SEED, checkpoints=Path(folder))
        fitted = text_family(family).fit(rows.texts, _labels(rows, codes), fitting)
        return fitted, time.perf_counter() - started


def _labels(rows: Rows, codes: tuple[int, ...]) -> Labels:
    return Labels(rows.classes, folds(rows, 5, SEED + 1), len(codes), rows.groups)


def _photo_output(model: ImageModel, photos: Sequence[Path]) -> ModelOutput:
    found = [model.output(_pixels(model, photo)) for photo in photos]
    return ModelOutput(*(np.concatenate(parts) for parts in zip(*found, strict=True)))


def _features(fitted: Fitted[ImageModel], photos: Sequence[Path]) -> FloatArray:
    return fitted.features if fitted.features is not None else _photo_output(fitted.model, photos).features


def _pixels(model: ImageModel, photo: Path) -> Pixels:
    return read_photo(photo.read_bytes(), model.input_size, PhotoLimits())[None]


def _median_ms(calls: Sequence[Any]) -> float:
    """Return the median time of a call in ms, in one thread; a first call is not counted."""
    calls[0]()
    taken = []
    for call in calls:
        started = time.perf_counter()
        call()
        taken.append(1000 * (time.perf_counter() - started))
    return float(np.median(taken))


def _size(family: Family) -> int:
    """Return the size of the model in a bundle, bytes."""
    with tempfile.TemporaryDirectory() as folder:
        family.save(Path(folder))
        return sum(path.stat().st_size for path in Path(folder).rglob("*") if path.is_file())


def _note(facts: Mapping[str, Any]) -> str:
    """Return whether int8 was used, or why not; empty for other precisions."""
    precision = facts.get("precision")
    if not isinstance(precision, Mapping) or precision.get("asked") != "int8":
        return ""
    return "int8 used" if precision.get("used") == "int8" else f"int8 refused: {precision.get('reason')}"


if __name__ == "__main__":
    main()
