"""Predicts a product with the champion, and records the result in metrics, traces and the prediction log.

Each product is predicted alone, so there is no metric of batch sizes.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from typing import TYPE_CHECKING

from prometheus_client import Counter, Histogram

from rayonnage_predict.request_parsing import PredictRequest
from rayonnage_shared.ml.base.categories import Categories
from rayonnage_shared.ml.bundles.bundle import Bundle
from rayonnage_shared.ml.features.photos import PhotoLimits
from rayonnage_shared.observability.recent_versions import RecentVersions
from rayonnage_shared.observability.tracing import tracing
from rayonnage_shared.predictions.inference import TimedPrediction, predict_product
from rayonnage_shared.predictions.log import PredictionLog
from rayonnage_shared.predictions.schemas import PredictionDocument

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
VERSIONS = RecentVersions(PREDICTIONS)
_STAGES = {stage: STAGE_SECONDS.labels(stage) for stage in ("prepare", "text", "image", "fusion")}


@dataclass(frozen=True, slots=True)
class Caller:
    """Who asks, under which request id, and when the request came in by `time.perf_counter`.

    `language` is the one that category names should be in, `span` the request's span when it is traced.
    """

    username: str
    request_id: str
    received_at: float
    language: str | None = None
    span: Span | None = None


class Predictor:
    """Predicts on whichever thread it is called."""

    def __init__(self, categories: Categories, limits: PhotoLimits, prediction_log: PredictionLog) -> None:
        self._categories = {language: categories.translated(language) for language in (None, *categories.translations)}
        self._limits = limits
        self._log = prediction_log

    @property
    def languages(self) -> Collection[str]:
        """The languages in which categories have names."""
        return [language for language in self._categories if language is not None]

    def predict(self, bundle: Bundle, product: PredictRequest, caller: Caller) -> PredictionDocument:
        """Return the prediction; it is counted and logged. Raises what `predict_product` raises."""
        fields = product.fields
        timed = predict_product(
            bundle,
            self._categories[caller.language],
            fields.designation,
            fields.description,
            product.photo,
            top_k=fields.top_k,
            product_identifier=fields.product_identifier,
            limits=self._limits,
            received_at=caller.received_at,
        )
        self._record(timed, product, caller)
        return timed.document

    def _record(self, timed: TimedPrediction, product: PredictRequest, caller: Caller) -> None:
        prediction, stages = timed.document, timed.stages
        for stage, (begin, end) in stages.items():
            _STAGES[stage].observe(end - begin)
        if caller.span is not None and (traces := tracing()) is not None:
            traces.stages(caller.span, {"read": (caller.received_at, stages["prepare"][0]), **stages})
        version = prediction["model"]["version"]
        VERSIONS.served(version)
        PREDICTIONS.labels(prediction["predicted"], prediction["decision"], version).inc()
        CONFIDENCE.observe(prediction["confidence"])
        self._log.add(prediction, product.fields, product.photo, username=caller.username, request_id=caller.request_id)
