"""Train a bundle from a dataset, evaluate it, and promote it if it is better than the champion."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from rayonnage_shared.ml.base.categories import load_categories
from rayonnage_shared.ml.base.model import IntArray
from rayonnage_shared.ml.base.progress import Progress, part, silent
from rayonnage_shared.ml.bundles.bundle import Bundle, load_bundle
from rayonnage_shared.ml.bundles.champion import ChampionBroken, read_champion
from rayonnage_shared.ml.bundles.manifest import BundleBroken, BundleNotFound, read_manifest
from rayonnage_shared.ml.catalogue.datasets import DatasetStore
from rayonnage_shared.ml.catalogue.products import Products, class_positions
from rayonnage_shared.ml.evaluation.gate import Verdict, compare
from rayonnage_shared.ml.evaluation.report import evaluation_report, load_promises, read_report, with_costs_of
from rayonnage_shared.ml.evaluation.schemas import EvaluationReport
from rayonnage_shared.ml.evaluation.scoring import score_products
from rayonnage_shared.ml.training.held_out import HeldOut
from rayonnage_shared.ml.training.requests import PromotePolicy, TrainRequest
from rayonnage_shared.ml.training.run import Training
from rayonnage_shared.ml.training.validation import DatasetTooSmall, validate_request
from rayonnage_shared.pipelines.run_context import RunContext
from rayonnage_shared.pipelines.settings import PipelineSettings
from rayonnage_shared.registry.promotion import promote
from rayonnage_shared.registry.retention import prune

_TRAINED = 0.95
"""How much of a training is done when its bundle is complete."""


def train(request: TrainRequest, run: RunContext[PipelineSettings]) -> dict[str, Any]:
    """Train and evaluate a bundle, and promote it if it is better; return `{version, metrics, promoted, reason}`.

    Stages that an earlier attempt of the same job finished are not run again. The caller removes the work folder once
    the result is recorded: a crash in between would otherwise train everything again. Raises what `validate_request`
    and `Training.run` raise.
    """
    settings, store = run.settings, run.datasets
    request = validate_request(request, store)
    settings.models_path.mkdir(parents=True, exist_ok=True)
    version = Training(
        request=request,
        models_path=settings.models_path,
        store=store,
        categories=load_categories(settings.categories_path),
        work=run.work,
        submitted_by=run.submitted_by,
        stage=run.stage,
        progress=part(run.progress, 0, _TRAINED),
        promised_precision=settings.promised_precision,
    ).run()
    metrics = read_manifest(settings.models_path, version).metrics
    run.enter("gate", "comparing with the champion", _TRAINED)
    verdict = compare_with_champion(version, request.promote, settings)
    if verdict.promote:
        run.stage("promote")
        reason = f"job {run.job_id}: {verdict.reason}"[:1000]
        promote(settings.models_path, run.engine, version, run.submitted_by, reason)
    prune(settings.models_path, store, bundles_kept=settings.bundles_kept, datasets_kept=settings.datasets_kept)
    return {"version": version, "metrics": metrics, "promoted": verdict.promote, "reason": verdict.reason}


def compare_with_champion(version: str, policy: PromotePolicy, settings: PipelineSettings) -> Verdict:
    """Return whether `version` should become the champion, and why."""
    models_path, store = settings.models_path, DatasetStore(settings.data_path)
    if policy == "never":
        return Verdict(False, "the request says never to promote")
    try:
        champion = read_champion(models_path)
        if champion is None:
            return Verdict(True, "there was no champion")
        if champion.version == version:
            return Verdict(True, "it is already the champion")
        if policy == "always":
            return Verdict(True, "the request says always to promote")
        champion_bundle = load_bundle(models_path, champion.version)
    except ChampionBroken as error:
        return Verdict(policy == "always", error.detail)
    except (BundleBroken, BundleNotFound) as error:
        return Verdict(False, f"the champion cannot be loaded to compare with it: {error.detail}")
    challenger_bundle = load_bundle(models_path, version)
    dataset = challenger_bundle.manifest.dataset
    if champion_bundle.manifest.dataset.demo and not dataset.demo:
        return Verdict(True, "the champion was trained on the demo catalogue, this one on real products")
    products = store.load(dataset.version)
    rows = unseen_test_rows(products, models_path / champion.version)
    if len(rows) == 0:
        return Verdict(False, "no test row is unseen by both models")
    codes = tuple(sorted({*challenger_bundle.codes, *champion_bundle.codes}))
    return compare(
        rows.classes(codes),
        class_positions(_predicted_codes(challenger_bundle, rows, store), codes),
        class_positions(_predicted_codes(champion_bundle, rows, store), codes),
        codes,
        class_margin=settings.gate_class_margin,
    )


def evaluate_version(
    version: str, *, models_path: Path, store: DatasetStore, dataset_version: str | None, progress: Progress = silent
) -> EvaluationReport:
    """Return the report of `version` on a dataset's test split, without the rows it trained on.

    The metrics of the test split are computed anew; what the training measured (learning, time, out-of-fold selection)
    comes from the bundle and is missing for an old one. Raises BundleNotFound, DatasetNotFound, or DatasetTooSmall.
    """
    bundle = load_bundle(models_path, version)
    chosen = dataset_version or bundle.manifest.dataset.version
    rows = unseen_test_rows(store.load(chosen), models_path / version)
    known = np.isin(rows.codes, np.asarray(bundle.codes))
    rows = rows.take(known)
    if len(rows) == 0:
        raise DatasetTooSmall(f"Dataset {chosen} has no test rows that {version} can be evaluated on.")
    report = evaluation_report(
        score_products(bundle, rows, store, progress),
        rows.classes(bundle.codes),
        bundle.codes,
        bundle.manifest.categories.labels,
        dataset_version=chosen,
        promises=load_promises(models_path / version),
    )
    of_training = read_report(models_path / version)
    return report if of_training is None else with_costs_of(report, of_training)


def unseen_test_rows(products: Products, bundle_folder: Path) -> Products:
    """Return the test rows that no model in `bundle_folder` was trained on."""
    trained_on: set[str] = set()
    for path in bundle_folder.glob("*.held_out.npz"):
        trained_on.update(HeldOut.load(path).ids)
    test = products.take(products.splits == "test")
    return test.take(np.array([one not in trained_on for one in test.ids], dtype=bool))


def _predicted_codes(bundle: Bundle, rows: Products, store: DatasetStore) -> IntArray:
    best = score_products(bundle, rows, store).probabilities.argmax(axis=1)
    codes: IntArray = np.asarray(bundle.codes, dtype=np.int64)[best]
    return codes
