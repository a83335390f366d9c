"""One prediction as the log keeps it."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    pass


class LoggedPrediction(NamedTuple):
    """One row to be: the columns of `database.tables.PredictionRow` in their order; `created_at` in s since 1970."""

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
        """How long its texts are, which is nearly all of its size."""
        return len(self.designation or "") + len(self.description or "")
