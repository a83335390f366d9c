"""Predictions as `PredictionLog.add` takes them, for the tests of the log and of lineage."""

from __future__ import annotations

from ulid import ULID

from rayonnage_shared.predictions.log import PredictionLog
from rayonnage_shared.predictions.schemas import PredictionDocument, ProductFields

VERSION = "20261121T081500Z-3f2a"
PHOTO = b"a photo"


def prediction(version: str = VERSION, prediction_id: str | None = None) -> PredictionDocument:
    """Return an answer for a product with a text and without a photo."""
    return {
        "prediction_id": prediction_id or str(ULID()),
        "predicted": "2583",
        "predicted_category": "2583",
        "category_id": 2583,
        "label": "Piscine",
        "confidence": 0.97,
        "predictions": [],
        "modalities": {
            "text": {"used": True, "category_id": 2582, "probability": 0.5, "reason": None},
            "image": {"used": False, "category_id": None, "probability": None, "reason": None},
        },
        "model": {"version": version, "family": "tfidf-svm"},
        "decision": "accept",
        "product_identifier": "sku-1",
        "duration_ms": 11.8,
    }


def product(designation: str | None = "Piscine ronde", description: str | None = None) -> ProductFields:
    return ProductFields(designation=designation, description=description, product_identifier="sku-1")


def note(log: PredictionLog, fields: ProductFields | None = None, photo: bytes | None = None, **made: str) -> str:
    """Have a prediction of `fields` logged, asked for by jane, and return its id."""
    answer = prediction(**made)
    log.add(answer, fields or product(), photo, username="jane", request_id="request-1")
    return answer["prediction_id"]
