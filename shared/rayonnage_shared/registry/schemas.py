"""Bodies about bundles: versions, metrics, the champion, promotion."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

from rayonnage_shared.core.validation import Matching, RequestModel
from rayonnage_shared.ml.bundles.manifest import Manifest
from rayonnage_shared.ml.evaluation.schemas import EvaluationReport


class ModelVersion(BaseModel):
    version: str
    champion: bool
    created_at: datetime
    families: dict[str, str | None] = Field(examples=[{"text": "tfidf-embedding", "image": None, "fusion": None}])
    dataset_version: str
    metrics: dict[str, float]
    broken: str | None = Field(
        None, description="Why the bundle cannot be read; its families, dataset and metrics are then not known."
    )


class ModelDetails(ModelVersion):
    manifest: Manifest
    evaluation: EvaluationReport | None = Field(description="Null for a bundle from before there were reports.")
    figures: dict[str, str] = Field(
        description="Addresses of PNG plots by name.",
        examples=[{"confusion": "/models/20261121T073029Z-9244/figures/confusion.png"}],
    )


class ModelList(BaseModel):
    champion: str | None
    models: list[ModelVersion]
    broken: str | None = Field(None, description="Why the champion pointer cannot be read.")


class Info(BaseModel):
    ready: bool = Field(description="Whether predictions can be made.")
    version: str | None = Field(description="The champion's version.")
    path: str | None
    metrics: dict[str, float]
    trained_on: str | None = Field(description="Dataset version that the champion was trained on.")
    last_dataset: str | None
    broken: str | None = Field(
        None, description="Why the champion cannot be loaded; the model that was loaded before serves meanwhile."
    )


class PromoteRequest(RequestModel):
    model_config = ConfigDict(json_schema_extra={"examples": [{"reason": "fewer wrong pool products"}]})

    reason: Annotated[str, Matching(r"^[^\x00]*$", "must not contain NUL characters")] = Field(
        "requested by an admin", max_length=500
    )
    allow_older_data: bool = Field(
        False, description="Allow a version that was trained on older data than the champion, or on the demo catalogue."
    )


class Promotion(BaseModel):
    version: str = Field(description="The champion from then on.")
    previous: str | None
    moved_by: str
    moved_at: datetime
    reason: str


class PromotionList(BaseModel):
    promotions: list[Promotion] = Field(description="Promotions and rollbacks, newest first.")
