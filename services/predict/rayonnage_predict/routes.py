"""Predictions, and what is known of the models that make them."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import anyio.to_thread
from fastapi import APIRouter, Request, Response
from fastapi import Path as PathParameter

from rayonnage_predict.feedback import FeedbackDesk
from rayonnage_predict.openapi import request_body
from rayonnage_predict.predictor import Caller, Predictor
from rayonnage_predict.request_parsing import Only, read_predict_request
from rayonnage_shared.auth.dependencies import CurrentUser
from rayonnage_shared.auth.tokens import Principal
from rayonnage_shared.feedback.schemas import Feedback, FeedbackRequest
from rayonnage_shared.http.middleware import SPAN
from rayonnage_shared.http.problems import problems, request_id_of
from rayonnage_shared.ml.bundles.champion import ChampionBroken, read_champion, readable_champion
from rayonnage_shared.ml.bundles.manifest import (
    BundleBroken,
    BundleNotFound,
    Manifest,
    creation_time,
    dataset_of_broken,
    list_versions,
    read_manifest,
)
from rayonnage_shared.ml.catalogue.datasets import DatasetStore
from rayonnage_shared.ml.evaluation.plot_files import PLOT_NAME_PATTERN, plot_names, read_plot
from rayonnage_shared.ml.evaluation.report import read_report
from rayonnage_shared.predictions.schemas import Prediction
from rayonnage_shared.registry.schemas import Info, ModelDetails, ModelList, ModelVersion

router = APIRouter()

Version = Annotated[str, PathParameter(max_length=64)]
PlotName = Annotated[str, PathParameter(pattern=PLOT_NAME_PATTERN)]

PREDICT_ERRORS = problems(400, 401, 413, 415, 429, 503)


async def _predict(request: Request, user: Principal, only: Only) -> Response:
    span = getattr(request.state, SPAN, None)
    caller = Caller(user.username, request_id_of(request), time.perf_counter(), span)
    product = await read_predict_request(request, only)
    judge: Predictor = request.app.state.judge
    return Response(await judge.answer(product, caller), media_type="application/json")


@router.post(
    "/predict",
    tags=["predictions"],
    response_model=Prediction,
    responses=PREDICT_ERRORS,
    openapi_extra=request_body(),
)
async def predict(request: Request, user: CurrentUser) -> Response:
    """Predict a product's category from its title, description and photo; any of them may be missing, not all."""
    return await _predict(request, user, None)


@router.post(
    "/predict/text/manual",
    tags=["predictions"],
    response_model=Prediction,
    responses=PREDICT_ERRORS,
    openapi_extra=request_body("text"),
)
async def predict_text(request: Request, user: CurrentUser) -> Response:
    """Predict from title and description alone."""
    return await _predict(request, user, "text")


@router.post(
    "/predict/image/manual",
    tags=["predictions"],
    response_model=Prediction,
    responses=PREDICT_ERRORS,
    openapi_extra=request_body("image"),
)
async def predict_image(request: Request, user: CurrentUser) -> Response:
    """Predict from the photo alone."""
    return await _predict(request, user, "image")


@router.post(
    "/feedback",
    tags=["predictions"],
    status_code=201,
    response_model=Feedback,
    responses={
        200: {"model": Feedback, "description": "It stands in place of what was said about this prediction before"},
        **problems(401, 404, 413, 503),
    },
)
async def feedback(request: Request, response: Response, said: FeedbackRequest, user: CurrentUser) -> Feedback:
    """Say which category the product of a prediction really has; the newest word about a prediction counts.

    It becomes a labelled product of the next dataset version, and tells how good the model is in daily use.
    """
    desk: FeedbackDesk = request.app.state.feedback
    written, is_first = await desk.take(said, user.username)
    if not is_first:
        response.status_code = 200
    return written


@router.get("/info", tags=["models"], response_model=Info, responses=problems(401, 503))
async def info(request: Request, _user: CurrentUser) -> Info:
    """Say whether predictions can be made, by which model, and how good it is."""
    settings = request.app.state.settings
    return await anyio.to_thread.run_sync(_info, settings.models_path, settings.data_path)


@router.get("/models", tags=["models"], response_model=ModelList, responses=problems(401, 503))
async def models(request: Request, _user: CurrentUser) -> ModelList:
    """List the model versions, newest first."""
    return await anyio.to_thread.run_sync(_list_models, request.app.state.settings.models_path)


@router.get("/models/{version}", tags=["models"], response_model=ModelDetails, responses=problems(401, 404, 500, 503))
async def model(request: Request, version: Version, _user: CurrentUser) -> ModelDetails:
    """Show one model version: its manifest, how good it is, and where the pictures of that are."""
    return await anyio.to_thread.run_sync(_describe_model, request.app.state.settings.models_path, version)


@router.get(
    "/models/{version}/figures/{name}.png",
    tags=["models"],
    response_class=Response,
    responses={
        200: {"content": {"image/png": {"schema": {"type": "string", "format": "binary"}}}, "description": "A picture"},
        304: {"description": "The picture is the one that `If-None-Match` names; it never changes"},
        **problems(401, 404, 500, 503),
    },
)
async def plot(request: Request, version: Version, name: PlotName, _user: CurrentUser) -> Response:
    """Show a plot of a model's evaluation: `confusion`, `calibration`, `classes`, `selective` or `learning_text`."""
    found = await anyio.to_thread.run_sync(read_plot, request.app.state.settings.models_path, version, name)
    headers = {"ETag": f'"{found.sha256}"', "Cache-Control": "private, max-age=31536000, immutable"}
    if headers["ETag"] in request.headers.get("if-none-match", ""):
        return Response(status_code=304, headers=headers)
    return Response(found.content, media_type="image/png", headers=headers)


def _info(models_path: Path, data_path: Path) -> Info:
    champion, manifest, broken = None, None, None
    try:
        champion = read_champion(models_path)
        manifest = read_manifest(models_path, champion.version) if champion else None
    except (ChampionBroken, BundleBroken, BundleNotFound) as error:
        broken = error.detail
    return Info(
        ready=manifest is not None,
        version=champion.version if champion else None,
        path=str(models_path / champion.version) if champion else None,
        metrics=manifest.metrics if manifest else {},
        trained_on=manifest.dataset.version if manifest else None,
        last_dataset=DatasetStore(data_path).current(),
        broken=broken,
    )


def _list_models(models_path: Path) -> ModelList:
    champion, broken = None, None
    try:
        champion = read_champion(models_path)
    except ChampionBroken as error:
        broken = error.detail
    name = champion.version if champion else None
    return ModelList(champion=name, models=list(_model_versions(models_path, name)), broken=broken)


def _describe_model(models_path: Path, version: str) -> ModelDetails:
    champion = readable_champion(models_path)
    manifest = read_manifest(models_path, version)
    summary = _summary(version, manifest, champion.version if champion else None)
    plots = {name: f"/models/{version}/figures/{name}.png" for name in plot_names(manifest)}
    report = read_report(models_path / version)
    return ModelDetails(**summary.model_dump(), manifest=manifest, evaluation=report, figures=plots)


def _model_versions(models_path: Path, champion: str | None) -> Iterator[ModelVersion]:
    for version in list_versions(models_path):
        try:
            yield _summary(version, read_manifest(models_path, version), champion)
        except BundleBroken as error:
            yield ModelVersion(
                version=version,
                champion=version == champion,
                created_at=creation_time(version),
                families={"text": None, "image": None, "fusion": None},
                dataset_version=dataset_of_broken(models_path, version) or "",
                metrics={},
                broken=error.detail,
            )
        except BundleNotFound:  # removed by another process
            continue


def _summary(version: str, manifest: Manifest, champion: str | None) -> ModelVersion:
    return ModelVersion(
        version=version,
        champion=version == champion,
        created_at=manifest.created_at,
        families=manifest.families.model_dump(),
        dataset_version=manifest.dataset.version,
        metrics=manifest.metrics,
    )
