"""Train a bundle from a dataset, evaluate it, and promote it if it is better than the champion."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from rayonnage_shared.ml.base.categories import load_categories
from rayonnage_shared.ml.base.model import IntArray
from rayonnage_shared.ml.base.progress import Progress, part, silent
from rayonnage_shared.ml.bundles.bundle import Bundle, load_bundle
from rayonnage_shared.ml.bundles.champion import Champion, ChampionBroken, read_champion
from rayonnage_shared.ml.bundles.manifest import BundleBroken, BundleNotFound, Manifest, read_manifest
from rayonnage_shared.ml.bundles.origins import has_demo_part
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
from rayonnage_shared.registry.data_order import older_than, older_than_newest
from rayonnage_shared.registry.promotion import MAX_REASON_CHARACTERS, promote
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
    allowed = request.allow_older_data
    verdict = compare_with_champion(version, request.promote, settings, allow_older_data=allowed)
    if verdict.promote:
        run.stage("promote")
        reason = f"job {run.job_id}: {verdict.reason}"[:MAX_REASON_CHARACTERS]
        promote(settings.models_path, run.engine, version, run.submitted_by, reason, allow_older_data=allowed)
    prune(settings.models_path, store, bundles_kept=settings.bundles_kept, datasets_kept=settings.datasets_kept)
    return {"version": version, "metrics": metrics, "promoted": verdict.promote, "reason": verdict.reason}


def compare_with_champion(
    version: str, policy: PromotePolicy, settings: PipelineSettings, *, allow_older_data: bool = False
) -> Verdict:
    """Return whether `version` should become the champion, and why.

    Both are evaluated on the test rows of the newest dataset that neither was trained on. A model of an older dataset,
    or of the demo catalogue where there are real products, is promoted only by `always` with `allow_older_data`.
    """
    models_path, store = settings.models_path, DatasetStore(settings.data_path)
    if policy == "never":
        return Verdict(False, "the request says never to promote")
    challenger = read_manifest(models_path, version)
    older = older_than_newest(models_path, store, challenger)
    try:
        champion = read_champion(models_path)
    except ChampionBroken as error:
        return Verdict(policy == "always" and (older is None or allow_older_data), error.detail)
    if champion is not None and champion.version == version:
        return Verdict(True, "it is already the champion")
    older = older or _older_than_champion(models_path, challenger, champion)
    if older is not None and not (policy == "always" and allow_older_data):
        return Verdict(False, f"{older}; only `promote: always` with `allow_older_data: true` makes it the champion")
    if policy == "always":
        although = "" if older is None else f", although {older}"
        return Verdict(True, f"the request says always to promote{although}")
    if champion is None:
        return Verdict(True, "there was no champion")
    try:
        champion_bundle = load_bundle(models_path, champion.version)
    except (BundleBroken, BundleNotFound) as error:
        return Verdict(False, f"the champion cannot be loaded to compare with it: {error.detail}")
    if has_demo_part(models_path, champion_bundle.manifest) and not has_demo_part(models_path, challenger):
        return Verdict(True, "the champion was trained on the demo catalogue, this one on real products")
    return _compare_on_newest(load_bundle(models_path, version), champion_bundle, settings)


def _older_than_champion(models_path: Path, challenger: Manifest, champion: Champion | None) -> str | None:
    try:
        manifest = read_manifest(models_path, champion.version) if champion else None
    except (BundleBroken, BundleNotFound):
        return None
    return older_than(models_path, challenger, manifest) if manifest else None


def _compare_on_newest(challenger: Bundle, champion: Bundle, settings: PipelineSettings) -> Verdict:
    """Return the gate's verdict on the rows of the newest dataset that neither model was trained on."""
    store = DatasetStore(settings.data_path)
    newest = store.current()
    if newest is None:
        return Verdict(False, "there is no dataset to compare on")
    rows = unseen_test_rows(store.load(newest), *(settings.models_path / one.version for one in (challenger, champion)))
    if len(rows) == 0:
        return Verdict(False, f"no test row of dataset {newest} is unseen by both models")
    codes = tuple(sorted({*challenger.codes, *champion.codes, *(int(code) for code in rows.codes)}))
    verdict = compare(
        rows.classes(codes),
        class_positions(_predicted_codes(challenger, rows, store), codes),
        class_positions(_predicted_codes(champion, rows, store), codes),
        codes,
        class_margin=settings.gate_class_margin,
    )
    return replace(verdict, reason=f"{verdict.reason}; compared on dataset {newest}")


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


def unseen_test_rows(products: Products, *bundle_folders: Path) -> Products:
    """Return the test rows that no model in `bundle_folders` was trained on."""
    trained_on: set[str] = set()
    for path in [path for folder in bundle_folders for path in folder.glob("*.held_out.npz")]:
        trained_on.update(HeldOut.load(path).ids)
    test = products.take(products.splits == "test")
    return test.take(np.array([one not in trained_on for one in test.ids], dtype=bool))


def _predicted_codes(bundle: Bundle, rows: Products, store: DatasetStore) -> IntArray:
    best = score_products(bundle, rows, store).probabilities.argmax(axis=1)
    codes: IntArray = np.asarray(bundle.codes, dtype=np.int64)[best]
    return codes
