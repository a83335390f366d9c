"""The evaluation report of a bundle, from its predictions for products that it was not trained on."""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pydantic import ValidationError

from rayonnage_shared.core.files import write_atomically
from rayonnage_shared.core.validation import first_fault
from rayonnage_shared.ml.base.model import Curve, FloatArray, IntArray, known_rows
from rayonnage_shared.ml.bundles.manifest import BundleBroken
from rayonnage_shared.ml.calibration.thresholds import MODES, Decisions, Mode
from rayonnage_shared.ml.evaluation.schemas import (
    Accuracies,
    BundleMetrics,
    CalibrationBin,
    ClassReport,
    Disagreement,
    EvaluationReport,
    Headline,
    LearningCurve,
    Selective,
    SelectiveReport,
)
from rayonnage_shared.ml.evaluation.scoring import Scores
from rayonnage_shared.ml.evaluation.selective import PROMISES, SelectiveMetrics
from rayonnage_shared.ml.metrics.classification import Evaluation, evaluate

REPORT_NAME = "evaluation.json"
PROMISES_FOLDER = "promises"


def evaluation_report(
    scores: Scores,
    truth: IntArray,
    codes: tuple[int, ...],
    labels: Mapping[int, str],
    *,
    dataset_version: str,
    promises: Iterable[Decisions] = (),
) -> EvaluationReport:
    """Return the report of `scores` against `truth` (n,); n must be at least 1.

    `labels` are by code; `promises` are thresholds that were fitted on other rows.
    """
    whole = evaluate(scores.probabilities, truth, codes)
    return EvaluationReport(
        dataset_version=dataset_version,
        test=_bundle_metrics(whole, scores, truth, codes, labels),
        text=_alone(scores.text, truth, codes),
        image=_alone(scores.image, truth, codes),
        selective=Selective(held_out=[], test=selective_on(promises, tables_by_mode(scores), truth)),
        disagreement=disagreement(scores, truth),
    )


def with_costs_of(report: EvaluationReport, of_training: EvaluationReport) -> EvaluationReport:
    """Return the report with what only the training can measure: curves, times, size, out-of-fold metrics."""
    kept = ("curves", "timing", "train_seconds", "bundle_bytes")
    selective = Selective(held_out=of_training.selective.held_out, test=report.selective.test)
    return report.model_copy(update={name: getattr(of_training, name) for name in kept} | {"selective": selective})


def tables_by_mode(scores: Scores) -> dict[Mode, FloatArray]:
    """Return probabilities (n, n_classes) by mode; rows without the mode's modalities are NaN."""
    both = np.where(_with_both(scores)[:, None], scores.probabilities, np.float32(np.nan))
    return dict(zip(MODES, (scores.text, scores.image, both), strict=True))


def selective_on(
    promises: Iterable[Decisions], tables: Mapping[Mode, FloatArray], truth: IntArray
) -> list[SelectiveReport]:
    """Return coverage and precision of thresholds on rows that they were not fitted on, for each mode with rows."""
    all_decisions = list(promises)
    found = []
    for mode, table in tables.items():
        known = known_rows(table)
        rows = table[known]
        correct = rows.argmax(axis=1) == truth[known]
        for decisions in all_decisions if known.any() else ():
            accepted = decisions.accepted(mode, rows)
            found.append(
                SelectiveReport(
                    mode=mode,
                    promised=decisions.promised_precision,
                    coverage=float(accepted.mean()),
                    precision=_mean(correct[accepted]),
                    rows=len(rows),
                )
            )
    return found


def disagreement(scores: Scores, truth: IntArray) -> Disagreement | None:
    """Return how often text and photo disagree, for the products that have both; None if there are none."""
    rows = np.flatnonzero(_with_both(scores))
    if len(rows) == 0:
        return None
    tables = (scores.text, scores.image, scores.probabilities)
    text, image, both = (table[rows].argmax(axis=1) for table in tables)
    differ = text != image

    def accuracies(chosen: NDArray[np.bool_]) -> Accuracies:
        by_text, by_image, by_both = (_mean((named == truth[rows])[chosen]) for named in (text, image, both))
        return Accuracies(rows=int(chosen.sum()), text=by_text, image=by_image, both=by_both)

    return Disagreement(
        rows=len(rows), share=float(differ.mean()), differing=accuracies(differ), agreeing=accuracies(~differ)
    )


def selective_reports(metrics: Iterable[SelectiveMetrics]) -> list[SelectiveReport]:
    """Return out-of-fold metrics in the form of the report."""
    return [SelectiveReport(**asdict(one)) for one in metrics]


def learning_curves(modality: str, curves: Iterable[Curve]) -> list[LearningCurve]:
    """Return a model's curves in the form of the report; NaN and infinity become null."""

    def known(values: Sequence[float]) -> list[float | None]:
        return [value if math.isfinite(value) else None for value in values]

    return [
        LearningCurve(
            modality=modality,
            figure=one.metric,
            axis=one.axis,
            x=list(one.x),
            train=known(one.train),
            held_out=known(one.held_out),
        )
        for one in curves
    ]


def flat_metrics(report: EvaluationReport) -> dict[str, float]:
    """Return the metrics of a manifest, by name."""
    headline = tuple(Headline.model_fields)
    found: dict[str, float | None] = {name: getattr(report.test, name) for name in headline}
    found |= {"accepted": report.test.accepted, "accepted_precision": report.test.accepted_precision}
    for modality, alone in (("text", report.text), ("image", report.image)):
        if alone is not None:
            found |= {f"{modality}_{name}": getattr(alone, name) for name in headline}
    if report.disagreement is not None:
        found["disagreement"] = report.disagreement.share
    found |= {f"ms_{one.mode}": one.median_ms for one in report.timing}
    found |= {f"train_seconds_{model}": seconds for model, seconds in report.train_seconds.items()}
    found["bundle_bytes"] = report.bundle_bytes
    return {name: value for name, value in found.items() if value is not None}


def write_report(bundle: Path, report: EvaluationReport) -> None:
    """Write `evaluation.json` into a bundle's folder."""
    write_atomically(bundle / REPORT_NAME, report.model_dump_json(indent=1).encode())


def read_report(bundle: Path) -> EvaluationReport | None:
    """Return what `write_report` wrote; None for a bundle from before there were reports. Raises BundleBroken."""
    try:
        document = json.loads((bundle / REPORT_NAME).read_text(encoding="utf-8"))
        return EvaluationReport.model_validate(document) if "test" in document else None
    except FileNotFoundError:
        return None
    except (OSError, ValueError, TypeError) as error:
        reason = first_fault(error) if isinstance(error, ValidationError) else error
        raise BundleBroken(f"The evaluation of bundle {bundle.name} cannot be read: {reason}.") from error


def fit_promises(tables: Mapping[Mode, FloatArray], classes: IntArray, folds: IntArray) -> list[Decisions]:
    """Return thresholds for each of PROMISES, found on held-out probabilities by mode (see `Decisions.fit`)."""
    return [Decisions.fit(dict(tables), classes, promised, folds) for promised in PROMISES]


def save_promises(bundle: Path, promises: Iterable[Decisions]) -> None:
    """Write thresholds into a bundle, so that it can be evaluated with them on other products later."""
    folder = bundle / PROMISES_FOLDER
    folder.mkdir(exist_ok=True)
    for one in promises:
        one.save(folder / f"{one.promised_precision:.2f}.json")


def load_promises(bundle: Path) -> list[Decisions]:
    """Return what `save_promises` kept, lowest promise first; nothing for a bundle from before there were reports."""
    return [Decisions.load(path) for path in sorted((bundle / PROMISES_FOLDER).glob("*.json"))]


def _bundle_metrics(
    whole: Evaluation, scores: Scores, truth: IntArray, codes: tuple[int, ...], labels: Mapping[int, str]
) -> BundleMetrics:
    correct = scores.probabilities.argmax(axis=1) == truth
    return BundleMetrics(
        rows=whole.rows,
        **whole.headline(),
        accepted=float(scores.accepted.mean()),
        accepted_precision=_mean(correct[scores.accepted]),
        codes=list(codes),
        confusion=whole.confusion.tolist(),
        classes=[ClassReport(label=labels.get(one.code, str(one.code)), **asdict(one)) for one in whole.classes],
        calibration=[CalibrationBin(**asdict(one)) for one in whole.calibration],
    )


def _alone(table: FloatArray, truth: IntArray, codes: tuple[int, ...]) -> Headline | None:
    rows = known_rows(table)
    if not rows.any():
        return None
    found = evaluate(table[rows], truth[rows], codes)
    return Headline(rows=found.rows, **found.headline())


def _with_both(scores: Scores) -> NDArray[np.bool_]:
    return np.asarray(np.isfinite(np.hstack([scores.text, scores.image])).all(axis=1))


def _mean(correct: NDArray[np.bool_]) -> float | None:
    return float(correct.mean()) if len(correct) else None
