"""Evaluate a bundle before it is published: its report, plots and predictions for the test split."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from rayonnage_shared.core.optional_parts import PLOTS
from rayonnage_shared.ml.base.model import FloatArray
from rayonnage_shared.ml.base.progress import Progress, part
from rayonnage_shared.ml.bundles.bundle import Bundle, load_folder
from rayonnage_shared.ml.bundles.manifest import MANIFEST_NAME
from rayonnage_shared.ml.calibration.thresholds import Mode
from rayonnage_shared.ml.catalogue.datasets import DatasetStore
from rayonnage_shared.ml.catalogue.products import Products
from rayonnage_shared.ml.evaluation.model_facts import ModelFacts
from rayonnage_shared.ml.evaluation.plot_files import PLOTS_FOLDER
from rayonnage_shared.ml.evaluation.plots import draw_plots
from rayonnage_shared.ml.evaluation.report import (
    REPORT_NAME,
    evaluation_report,
    fit_promises,
    learning_curves,
    save_promises,
    selective_reports,
    tables_by_mode,
    write_report,
)
from rayonnage_shared.ml.evaluation.saved_predictions import write_predictions
from rayonnage_shared.ml.evaluation.schemas import EvaluationReport
from rayonnage_shared.ml.evaluation.scoring import score_products
from rayonnage_shared.ml.evaluation.selective import selective_metrics
from rayonnage_shared.ml.evaluation.timing import time_bundle


def evaluate_bundle(
    building: Path,
    *,
    train: Products,
    test: Products,
    held_out: Mapping[Mode, FloatArray],
    store: DatasetStore,
    predictions: Path,
    progress: Progress,
) -> EvaluationReport:
    """Write report and thresholds into `building`, with plots if matplotlib is installed, and the test split's
    predictions to `predictions`.

    `held_out` (len(train), n_classes) are probabilities by mode from models that did not see the row, NaN without such.
    """
    bundle = load_folder(building)
    truth, classes = test.classes(bundle.codes), train.classes(bundle.codes)
    promises = fit_promises(held_out, classes, train.folds)
    save_promises(building, promises)
    scores = score_products(bundle, test, store, part(progress, 0, 0.7))
    report = evaluation_report(
        scores,
        truth,
        bundle.codes,
        bundle.manifest.categories.labels,
        dataset_version=bundle.manifest.dataset.version,
        promises=promises,
    )
    progress(0.7, "timing single products")
    report = _with_costs(report, building, bundle).model_copy(update={"timing": time_bundle(bundle, test, store)})
    report.selective.held_out = selective_reports(selective_metrics(dict(held_out), classes, train.folds))
    write_report(building, report)
    if PLOTS.is_installed():
        progress(0.9, "drawing plots")
        draw_plots(report, tables_by_mode(scores), truth, building)
    write_predictions(predictions, test, scores, bundle.codes)
    return report


def _with_costs(report: EvaluationReport, building: Path, bundle: Bundle) -> EvaluationReport:
    """Return the report with learning curves and times from the models' facts, and the bundle's size."""
    families = bundle.manifest.families.present()
    facts = {model: ModelFacts.load(building, model, family) for model, family in families.items()}
    own = {PLOTS_FOLDER, REPORT_NAME, MANIFEST_NAME}
    files = [path for path in building.rglob("*") if path.relative_to(building).parts[0] not in own]
    return report.model_copy(
        update={
            "curves": [curve for model, one in facts.items() for curve in learning_curves(model, one.curves)],
            "train_seconds": {model: one.seconds for model, one in facts.items()},
            "bundle_bytes": sum(path.stat().st_size for path in files if path.is_file()),
        }
    )
