"""Runs each product through whatever champion serves at that moment, and counts what comes out.

There is no metric of batch sizes: predict judges each product by itself.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from prometheus_client import Counter, Histogram

from rayonnage_predict.champion import Serving
from rayonnage_predict.request_parsing import PredictRequest
from rayonnage_shared.ml.base.categories import Categories
from rayonnage_shared.ml.bundles.bundle import Bundle
from rayonnage_shared.ml.features.photos import PhotoLimits
from rayonnage_shared.observability.recent_versions import RecentVersions
from rayonnage_shared.observability.tracing import tracing
from rayonnage_shared.predictions.inference import describe, prepare
from rayonnage_shared.predictions.log import PredictionLog

if TYPE_CHECKING:
    from opentelemetry.trace import Span

PREDICTIONS = Counter(
    "rayonnage_predictions_total",
    "Predictions by category, decision and model.",
    ["category", "decision", "model_version"],
)
CONFIDENCE = Histogram(
    "rayonnage_prediction_confidence",
    "Confidence of the predicted category.",
    buckets=(0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.99, 1.0),
)
STAGE_SECONDS = Histogram(
    "rayonnage_prediction_stage_seconds",
    "Time in each stage of a prediction: prepare (cleaning, decoding), text, image, fusion.",
    ["stage"],
    buckets=(0.0001, 0.00025, 0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25),
)
_PREPARE = STAGE_SECONDS.labels("prepare")
_TEXT = STAGE_SECONDS.labels("text")
_IMAGE = STAGE_SECONDS.labels("image")
_FUSION = STAGE_SECONDS.labels("fusion")


VERSIONS = RecentVersions(PREDICTIONS)


@dataclass(frozen=True, slots=True)
class Caller:
    """Who asks, and under which request id; `started` is when the request came, by `time.perf_counter`.

    `span` is the request's in a trace, where those are wanted.
    """

    username: str
    request_id: str
    started: float
    span: Span | None = None


class Predictor:
    """Turns products into predictions with whatever champion serves at that moment."""

    def __init__(
        self, serving: Serving, categories: Categories, limits: PhotoLimits, prediction_log: PredictionLog
    ) -> None:
        self._serving = serving
        self._categories = categories
        self._limits = limits
        self._log = prediction_log

    async def answer(self, product: PredictRequest, caller: Caller) -> bytes:
        """Return the prediction as JSON; it is noted for the log."""
        bundle = self._serving.bundle
        if product.photo is None and bundle.text_model is not None and bundle.text_model.fast:
            return self._judge(bundle, product, caller)
        return await self._serving.run(lambda: self._judge(bundle, product, caller))

    def _judge(self, bundle: Bundle, product: PredictRequest, caller: Caller) -> bytes:
        fields = product.fields
        before = time.perf_counter()
        inputs = prepare(bundle, fields.designation, fields.description, product.photo, self._limits)
        prepared = time.perf_counter()
        outcome = bundle.predict(inputs.text, inputs.pixels)
        started, text_done, image_done, done = outcome.times
        _PREPARE.observe(prepared - before)
        if outcome.text is not None:
            _TEXT.observe(text_done - started)
        if outcome.image is not None:
            _IMAGE.observe(image_done - text_done)
        if outcome.text is not None and outcome.image is not None:
            _FUSION.observe(done - image_done)
        if caller.span is not None and (traces := tracing()) is not None:
            stages = {"read": (caller.started, before), "prepare": (before, prepared)}
            if outcome.text is not None:
                stages["text"] = (started, text_done)
            if outcome.image is not None:
                stages["image"] = (text_done, image_done)
            traces.stages(caller.span, stages | {"fusion": (image_done, done)})
        prediction = describe(
            bundle,
            self._categories,
            outcome,
            top_k=fields.top_k,
            product_identifier=fields.product_identifier,
            duration_ms=1000 * (done - caller.started),
        )
        VERSIONS.served(bundle.version)
        PREDICTIONS.labels(prediction.predicted, prediction.decision, bundle.version).inc()
        CONFIDENCE.observe(prediction.confidence)
        self._log.note(prediction, fields, product.photo, username=caller.username, request_id=caller.request_id)
        return prediction.model_dump_json().encode()
