"""HTTP of predict: predictions, feedback, and the model versions.

The three predict routes are declared here for the API document; `answering.py` answers them, ahead of FastAPI.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Annotated

import anyio.to_thread
from fastapi import APIRouter, Request, Response
from fastapi import Path as PathParameter

from rayonnage_predict.champion import ChampionLoader
from rayonnage_predict.feedback import FeedbackWriter
from rayonnage_predict.model_versions import champion_info, describe_model, list_models
from rayonnage_predict.openapi import request_body
from rayonnage_predict.predictor import Caller, Predictor
from rayonnage_predict.request_parsing import Only, check_media_type, parse
from rayonnage_predict.settings import PredictSettings
from rayonnage_shared.auth.dependencies import CurrentUser
from rayonnage_shared.auth.tokens import Principal
from rayonnage_shared.core.validation import Matching
from rayonnage_shared.feedback.schemas import Feedback, FeedbackRequest
from rayonnage_shared.http.languages import preferred_language
from rayonnage_shared.http.problems import problems, request_id_of
from rayonnage_shared.ml.base.categories import Categories
from rayonnage_shared.ml.evaluation.plot_files import PLOT_NAME_PATTERN, read_plot
from rayonnage_shared.predictions.schemas import Category, CategoryList, Prediction
from rayonnage_shared.registry.schemas import Info, ModelDetails, ModelList

router = APIRouter()

Version = Annotated[str, PathParameter(max_length=64)]
PlotName = Annotated[str, PathParameter(), Matching(PLOT_NAME_PATTERN, "must be the name of a plot")]

PREDICT_ERRORS = problems(400, 401, 413, 415, 429, 503)


@dataclass(frozen=True, slots=True)
class PredictState:
    """What the routes work with."""

    settings: PredictSettings
    categories: Categories
    champion: ChampionLoader
    predictor: Predictor
    feedback: FeedbackWriter


def _state(request: Request) -> PredictState:
    # A plain call: FastAPI would run a dependency that is not a coroutine in a thread.
    state: PredictState = request.app.state.predict
    return state


async def _predict(request: Request, response: Response, user: Principal, only: Only) -> Prediction:
    """Predict as `answering.py` does, which answers these routes in its place: its answers are compared with these."""
    state = _state(request)
    language = preferred_language(request.headers.get("accept-language", ""), state.predictor.languages)
    if language:
        response.headers["Content-Language"] = language
    caller = Caller(user.username, request_id_of(request), time.perf_counter(), language)
    content_type = request.headers.get("content-type", "")
    check_media_type(content_type)
    bundle, body = state.champion.bundle, await request.body()
    product = parse(content_type, body, only)
    document = await anyio.to_thread.run_sync(state.predictor.predict, bundle, product, caller)
    return Prediction.model_validate(document)


@router.post(
    "/predict",
    tags=["predictions"],
    response_model=Prediction,
    responses=PREDICT_ERRORS,
    openapi_extra=request_body(),
)
async def predict(request: Request, response: Response, user: CurrentUser) -> Prediction:
    """Predict a product's category from its title, photo and description, of which at least one is needed.

    `Accept-Language: en` returns the names of the categories in English; by default they are in French.
    """
    return await _predict(request, response, user, None)


@router.post(
    "/predict/text/manual",
    tags=["predictions"],
    response_model=Prediction,
    responses=PREDICT_ERRORS,
    openapi_extra=request_body("text"),
)
async def predict_text(request: Request, response: Response, user: CurrentUser) -> Prediction:
    """Predict from title and description alone."""
    return await _predict(request, response, user, "text")


@router.post(
    "/predict/image/manual",
    tags=["predictions"],
    response_model=Prediction,
    responses=PREDICT_ERRORS,
    openapi_extra=request_body("image"),
)
async def predict_image(request: Request, response: Response, user: CurrentUser) -> Prediction:
    """Predict from the photo alone."""
    return await _predict(request, response, user, "image")


@router.post(
    "/feedback",
    tags=["predictions"],
    status_code=201,
    response_model=Feedback,
    responses={
        200: {"model": Feedback, "description": "The feedback replaces earlier feedback about this prediction"},
        **problems(401, 404, 413, 503),
    },
)
async def feedback(request: Request, response: Response, body: FeedbackRequest, user: CurrentUser) -> Feedback:
    """Give the true category of a prediction's product; the latest feedback wins.

    The product becomes a labelled row of the next dataset version, and the champion's accuracy in use is measured.
    """
    written, is_first = await _state(request).feedback.write(body, user.username)
    if not is_first:
        response.status_code = 200
    return written


@router.get("/categories", tags=["predictions"], response_model=CategoryList, responses=problems(401))
async def categories(request: Request, response: Response, _user: CurrentUser) -> CategoryList:
    """List the product type codes with their labels, including codes that an ingest added and the champion knows.

    `Accept-Language: en` returns the labels in English; by default they are in French.
    """
    state = _state(request)
    language = preferred_language(request.headers.get("accept-language", ""), state.predictor.languages)
    if language:
        response.headers["Content-Language"] = language
    learnt = state.champion.bundle.codes if state.champion.is_ready else ()
    labelled = state.categories.translated(language).labelled(learnt)
    return CategoryList(categories=[Category(category_id=code, label=label) for code, label in labelled])


@router.get("/info", tags=["models"], response_model=Info, responses=problems(401, 503))
async def info(request: Request, _user: CurrentUser) -> Info:
    """Show whether predictions can be made, and the champion with its metrics."""
    return await anyio.to_thread.run_sync(champion_info, _state(request).settings, _state(request).champion)


@router.get("/models", tags=["models"], response_model=ModelList, responses=problems(401, 503))
async def models(request: Request, _user: CurrentUser) -> ModelList:
    """List the model versions, newest first."""
    return await anyio.to_thread.run_sync(list_models, _state(request).settings.models_path)


@router.get("/models/{version}", tags=["models"], response_model=ModelDetails, responses=problems(401, 404, 500, 503))
async def model(request: Request, version: Version, _user: CurrentUser) -> ModelDetails:
    """Show one model version: its manifest, its evaluation report, and the addresses of its plots."""
    return await anyio.to_thread.run_sync(describe_model, _state(request).settings.models_path, version)


@router.get(
    "/models/{version}/figures/{name}.png",
    tags=["models"],
    response_class=Response,
    responses={
        200: {"content": {"image/png": {"schema": {"type": "string", "format": "binary"}}}, "description": "A plot"},
        304: {"description": "The plot has the `ETag` of `If-None-Match`"},
        **problems(401, 404, 500, 503),
    },
)
async def plot(request: Request, version: Version, name: PlotName, _user: CurrentUser) -> Response:
    """Show a plot of a model's evaluation: `confusion`, `calibration`, `classes`, `selective` or `learning_text`."""
    found = await anyio.to_thread.run_sync(read_plot, _state(request).settings.models_path, version, name)
    headers = {"ETag": f'"{found.sha256}"', "Cache-Control": "private, max-age=31536000, immutable"}
    if headers["ETag"] in request.headers.get("if-none-match", ""):
        return Response(status_code=304, headers=headers)
    return Response(found.content, media_type="image/png", headers=headers)
