"""Bodies of feedback: what a product really is, said about one prediction."""

from __future__ import annotations

from datetime import datetime

from pydantic import BaseModel, ConfigDict, Field

PREDICTION_ID_PATTERN = r"^[0-7][0-9A-HJKMNP-TV-Z]{25}$"
"""A ULID."""


class FeedbackRequest(BaseModel):
    model_config = ConfigDict(extra="forbid")

    prediction_id: str = Field(pattern=PREDICTION_ID_PATTERN, description="As the answer of `/predict` gave it.")
    category_id: int = Field(strict=True, ge=0, description="The code that the product really has.")


class Feedback(BaseModel):
    prediction_id: str
    category_id: int = Field(description="The code that the product really has.")
    predicted: str = Field(description="The code that was predicted, as the answer of `/predict` gave it.")
    correct: bool
    given_by: str
    given_at: datetime
