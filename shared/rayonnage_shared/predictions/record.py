"""A prediction as a row of the prediction log."""

from __future__ import annotations

from typing import NamedTuple


class LoggedPrediction(NamedTuple):
    """The columns of `database.tables.PredictionRow` in their order; `created_at` is in seconds since 1970."""

    prediction_id: str
    created_at: float
    version: str
    username: str
    request_id: str
    designation: str | None
    description: str | None
    product_identifier: str | None
    has_image: bool
    image_sha256: str | None
    category_id: int
    confidence: float
    decision: str
    text_category_id: int | None
    text_probability: float | None
    image_category_id: int | None
    image_probability: float | None
    duration_ms: float

    @property
    def characters(self) -> int:
        """Length of its texts, which are nearly all of its size."""
        return len(self.designation or "") + len(self.description or "")
