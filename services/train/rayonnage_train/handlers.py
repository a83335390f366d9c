"""What a job may be: one function for each kind, and what such a function is given."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from typing import Any, cast

import structlog

from rayonnage_shared.drift.schemas import DriftRequest
from rayonnage_shared.ml.training.requests import SearchRequest, TrainRequest
from rayonnage_train.job_context import JobContext, JobFunction
from rayonnage_train.job_types import DRIFT_KIND, SEARCH_KIND, TRAIN_KIND

log = structlog.get_logger()

DEFAULT_KINDS = "rayonnage_train.handlers:JOB_KINDS"


def train(context: JobContext) -> dict[str, Any]:
    """Train a bundle, judge it, perhaps promote it."""
    from rayonnage_shared.pipelines.training import train as train_bundle

    return train_bundle(TrainRequest.model_validate(context.request), **_circumstances(context))


def search(context: JobContext) -> dict[str, Any]:
    """Search a family's parameters, then train with the best."""
    from rayonnage_shared.pipelines.search import search_and_train

    return search_and_train(SearchRequest.model_validate(context.request), **_circumstances(context))


def drift(context: JobContext) -> dict[str, Any]:
    """Compare the champion's answers with its test split, and queue a training where that is called for."""
    from rayonnage_train.drift_job import report_and_act

    return report_and_act(
        DriftRequest.model_validate(context.request),
        settings=context.settings,
        engine=context.engine,
        work=context.work,
        stage=context.stage,
        progress=context.progress,
    )


def _circumstances(context: JobContext) -> dict[str, Any]:
    """Return what a training is told beside the request: where it works, for whom, and whom it tells."""
    return {
        "settings": context.settings,
        "engine": context.engine,
        "work": context.work,
        "job_id": context.job_id,
        "submitted_by": context.submitted_by,
        "stage": context.stage,
        "progress": context.progress,
    }


JOB_KINDS: Mapping[str, JobFunction] = {TRAIN_KIND: train, SEARCH_KIND: search, DRIFT_KIND: drift}


def load_kinds(path: str) -> Mapping[str, JobFunction]:
    """Return the kinds at `package.module:attribute`; tests bring their own."""
    module, _, attribute = path.partition(":")
    return cast(Mapping[str, JobFunction], getattr(importlib.import_module(module), attribute))
