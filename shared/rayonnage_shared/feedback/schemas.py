"""Bodies of feedback: the true category of the product of one prediction."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

from rayonnage_shared.core.validation import Matching, RequestModel

PREDICTION_ID_PATTERN = r"^[0-7][0-9A-HJKMNP-TV-Z]{25}$"
"""A ULID."""


class FeedbackRequest(RequestModel):
    model_config = ConfigDict(
        json_schema_extra={"examples": [{"prediction_id": "01KA9VGXJ5M8Q3T7R2W4Y6Z8B0", "category_id": 2583}]},
    )

    prediction_id: Annotated[str, Matching(PREDICTION_ID_PATTERN, "must be a `prediction_id` from `/predict`")] = Field(
        description="From the response of `/predict`."
    )
    category_id: int = Field(strict=True, ge=0, description="The product's true product type code.")


class Feedback(BaseModel):
    prediction_id: str
    category_id: int = Field(description="The product's true product type code.")
    predicted: str = Field(description="The predicted code, as in the response of `/predict`.")
    correct: bool
    given_by: str
    given_at: datetime
