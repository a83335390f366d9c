"""A search for better parameters, and the training with what it found; driven by the worker and the command line."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from sqlalchemy import Engine

from rayonnage_shared.ml.base.model import Family, Labels
from rayonnage_shared.ml.base.progress import Progress
from rayonnage_shared.ml.catalogue.datasets import DatasetStore
from rayonnage_shared.ml.catalogue.products import Products
from rayonnage_shared.ml.families import image_family, text_family
from rayonnage_shared.ml.training.plan import MIN_TRAIN_ROWS, DatasetTooSmall
from rayonnage_shared.ml.training.requests import SearchRequest, TrainRequest
from rayonnage_shared.ml.training.run import PRETRAINED_FOLDER
from rayonnage_shared.ml.training.search import Budget, FitOnce, Found, search
from rayonnage_shared.pipelines.settings import PipelineSettings
from rayonnage_shared.pipelines.training import train


def search_and_train(
    request: SearchRequest,
    *,
    settings: PipelineSettings,
    engine: Engine,
    work: Path,
    job_id: str,
    submitted_by: str,
    stage: Callable[[str], None],
    progress: Progress,
) -> dict[str, Any]:
    """Search, then train with the best parameters unless told not to; return `{search}` and what a training returns.

    A search that was interrupted goes on from the trials that it finished in `work`.
    """
    work.mkdir(parents=True, exist_ok=True)
    stage("search")
    progress(0.0, "reading the dataset")
    found = _search(request, settings, work, progress)
    result: dict[str, Any] = {"search": _summary(request, found)}
    if not request.train:
        return result
    wanted = TrainRequest(
        dataset_version=request.dataset_version,
        text=request.text,
        image=request.image,
        parameters=dict(found.best.parameters),
        promote=request.promote,
    )
    return result | train(
        wanted,
        settings=settings,
        engine=engine,
        work=work / "training",
        job_id=job_id,
        submitted_by=submitted_by,
        stage=stage,
        progress=progress,
    )


def _search(request: SearchRequest, settings: PipelineSettings, work: Path, progress: Progress) -> Found:
    store = DatasetStore(settings.data_path)
    version = request.dataset_version or store.current()
    if version is None:
        raise DatasetTooSmall("There is no dataset yet; ingest labelled products first.")
    products = store.load(version)
    rows = products.take(products.splits == "train")
    if request.image is not None:
        rows = rows.take(np.array([photo is not None for photo in rows.photos], dtype=bool))
    if len(rows) < MIN_TRAIN_ROWS or len(np.unique(rows.codes)) < 2:
        raise DatasetTooSmall(f"Dataset {version} has {len(rows)} rows to search on; {MIN_TRAIN_ROWS} are needed.")
    codes = tuple(sorted({int(code) for code in rows.codes}))
    labels = Labels(rows.classes(codes), rows.folds, len(codes), rows.groups)
    family, fit = _family_and_fit(request, rows, store, labels)
    pretrained = settings.models_path / PRETRAINED_FOLDER
    return search(
        family,
        lambda fitting: fit(replace(fitting, pretrained=pretrained)),
        labels,
        goal=request.goal,
        budget=Budget(request.trials, request.budget_s),
        fixed=request.fixed,
        seed=0,
        folder=work,
        progress=progress,
    )


def _family_and_fit(
    request: SearchRequest, rows: Products, store: DatasetStore, labels: Labels
) -> tuple[type[Family], FitOnce]:
    if request.text is not None:
        text, texts = text_family(request.text), rows.texts()
        return text, lambda fitting: text.fit(texts, labels, fitting)
    assert request.image is not None  # the contract sees to it
    image, photos = image_family(request.image), [store.photo_path(one) for one in rows.photos if one is not None]
    return image, lambda fitting: image.fit(photos, labels, fitting)


def _summary(request: SearchRequest, found: Found) -> dict[str, Any]:
    return {
        "family": request.text or request.image,
        "goal": found.goal,
        "value": found.best.value,
        "value_of_defaults": found.default.value,
        "parameters": dict(found.best.parameters),
        "trials": [
            {"parameters": dict(one.parameters), "value": one.value, "seconds": round(one.seconds, 1)}
            for one in found.trials
        ],
    }
