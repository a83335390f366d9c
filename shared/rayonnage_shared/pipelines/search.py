"""Search for better parameters of a family, and train a bundle with the best."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np

from rayonnage_shared.ml.base.model import Family, Labels
from rayonnage_shared.ml.catalogue.datasets import DatasetStore
from rayonnage_shared.ml.catalogue.products import Products
from rayonnage_shared.ml.families import image_family, text_family
from rayonnage_shared.ml.training.requests import SearchRequest
from rayonnage_shared.ml.training.run import PRETRAINED_FOLDER
from rayonnage_shared.ml.training.search import Budget, FitOnce, SearchResult, search
from rayonnage_shared.ml.training.validation import check_size, validate_request
from rayonnage_shared.pipelines.run_context import RunContext
from rayonnage_shared.pipelines.settings import PipelineSettings
from rayonnage_shared.pipelines.training import train

_SEARCHED = 0.8
"""How much of a search with a training is done when the parameters are found."""


def search_and_train(request: SearchRequest, run: RunContext[PipelineSettings]) -> dict[str, Any]:
    """Search, then train with the best parameters if requested; return `{search}` and what a training returns.

    An interrupted search resumes from the trials that it finished. Raises what `validate_request`, `search` and
    `train` raise.
    """
    request = validate_request(request, run.datasets)
    run.work.mkdir(parents=True, exist_ok=True)
    run.enter("search", "reading the dataset")
    searched = _SEARCHED if request.train else 1.0
    found = _search(request, run.child(end=searched))
    result: dict[str, Any] = {"search": _summary(request, found)}
    if not request.train:
        return result
    return result | train(request.training_with(found.best.parameters), run.child("training", start=searched))


def _search(request: SearchRequest, run: RunContext[PipelineSettings]) -> SearchResult:
    assert request.dataset_version is not None  # `validate_request` resolves it
    products = run.datasets.load(request.dataset_version)
    rows = products.take(products.splits == "train")
    if request.image is not None:
        rows = rows.take(np.array([photo is not None for photo in rows.photos], dtype=bool))
    codes = tuple(sorted({int(code) for code in rows.codes}))
    check_size(request.dataset_version, len(rows), len(codes))
    labels = Labels(rows.classes(codes), rows.folds, len(codes), rows.groups)
    family, fit = _family_and_fit(request, rows, run.datasets, labels)
    pretrained, cache = run.settings.models_path / PRETRAINED_FOLDER, run.datasets.photo_features_path
    return search(
        family,
        lambda fitting: fit(replace(fitting, pretrained=pretrained, photo_features=cache)),
        labels,
        goal=request.goal,
        budget=Budget(request.trials, request.budget_s),
        fixed=request.fixed,
        seed=0,
        folder=run.work,
        progress=run.progress,
    )


def _family_and_fit(
    request: SearchRequest, rows: Products, store: DatasetStore, labels: Labels
) -> tuple[type[Family], FitOnce]:
    if request.text is not None:
        text, texts = text_family(request.text), rows.texts()
        return text, lambda fitting: text.fit(texts, labels, fitting)
    assert request.image is not None  # validated by SearchRequest
    image, photos = image_family(request.image), [store.photo_path(one) for one in rows.photos if one is not None]
    return image, lambda fitting: image.fit(photos, labels, fitting)


def _summary(request: SearchRequest, found: SearchResult) -> dict[str, Any]:
    return {
        "family": request.family,
        "goal": found.goal,
        "value": found.best.value,
        "value_of_defaults": found.default.value,
        "parameters": dict(found.best.parameters),
        "trials": [
            {"parameters": dict(one.parameters), "value": one.value, "seconds": round(one.seconds, 1)}
            for one in found.trials
        ],
    }
