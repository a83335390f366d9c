"""Builds the predict service."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from anyio import to_thread
from fastapi import FastAPI

from rayonnage_predict.answering import Answering, BodyMemory
from rayonnage_predict.champion import ChampionLoader
from rayonnage_predict.feedback import FeedbackWriter
from rayonnage_predict.predictor import Predictor
from rayonnage_predict.routes import PredictState, router
from rayonnage_predict.settings import PredictSettings
from rayonnage_predict.workers import Workers
from rayonnage_shared.auth.dependencies import refreshing_keys
from rayonnage_shared.auth.tokens import TokenVerifier
from rayonnage_shared.feedback.service import FeedbackService
from rayonnage_shared.http.app import create_service
from rayonnage_shared.http.hot_routes import HotRoutes
from rayonnage_shared.http.server import time_to_close
from rayonnage_shared.ml.base.categories import load_categories
from rayonnage_shared.ml.features.photos import SERVING_DECODER_BYTES, PhotoLimits
from rayonnage_shared.predictions.log import STOP_WITHIN_S, PredictionLog


def create_app(settings: PredictSettings) -> FastAPI:
    """Return the predict service; its lifespan loads the champion, watches the pointer and writes the log."""
    verifier = TokenVerifier(settings)
    champion = ChampionLoader(settings.models_path)
    prediction_log = PredictionLog(
        settings.database_url,
        max_waiting=settings.prediction_log_max_waiting,
        keep_days=settings.prediction_log_days,
        keep_feedback_days=settings.feedback_days,
        keep_texts=settings.prediction_log_texts,
    )
    categories = load_categories(settings.categories_path)
    limits = PhotoLimits(settings.max_image_bytes, settings.max_image_pixels, SERVING_DECODER_BYTES)
    predictor = Predictor(categories, limits, prediction_log)
    workers = Workers(settings.predict_threads, settings.predict_max_wait_s)
    memory = BodyMemory(settings.predict_max_bytes_in_flight)
    answering = Answering(verifier, champion, predictor, workers, memory)
    feedback = FeedbackWriter(
        settings.database_url, FeedbackService(settings.models_path, categories, settings.prediction_log_days)
    )

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        try:
            async with refreshing_keys(verifier, settings), champion.watching():
                prediction_log.start()  # after the champion: its imports would delay the first response
                yield
        finally:
            await to_thread.run_sync(workers.close)
            await to_thread.run_sync(feedback.close)
            await to_thread.run_sync(prediction_log.stop, time_to_close(app, STOP_WITHIN_S))

    app = create_service(
        title="Rayonnage predict",
        description="Product type codes from title, description and photo.",
        lifespan=lifespan,
        routers=[router],
        readiness={"champion": champion.why_not_ready, "auth": verifier.why_not_ready},
        reported={"champion": champion.why_outdated, "prediction_log": prediction_log.why_not_writing},
        max_body_bytes=settings.predict_max_body_bytes,
    )
    app.add_middleware(HotRoutes, routes=answering.routes(), max_body_bytes=settings.predict_max_body_bytes)
    app.state.verifier = verifier
    app.state.predict = PredictState(settings, categories, champion, predictor, feedback)
    return app
