"""What a drift report says, as it stands in `drift_report.json`."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Literal

from pydantic import BaseModel, Field

DriftMeasure = Literal["ks", "ks_fall", "cohen_h", "mean_shift"]


class ColumnDrift(BaseModel):
    """One column: how far the answers lie from the reference, and whether that is an alarm."""

    name: str
    measure: DriftMeasure = Field(
        description="`ks`: Kolmogorov–Smirnov distance of numbers; `ks_fall`: the same, of falls only. `cohen_h`: "
        "Cohen's h of the value whose share has changed the most surely. `mean_shift`: squared distance of mean "
        "embeddings as a share of the variance."
    )
    distance: float | None = Field(description="Null where there are too few rows.")
    threshold: float = Field(description="The distance from which on a column is an alarm, if chance is ruled out.")
    p_value: float | None = Field(description="How often chance gives as much in any of the columns.")
    drift: bool
    what: str = Field(description="What has changed the most, in words.")
    reference_rows: int
    current_rows: int


class DriftReport(BaseModel):
    """The reference against the answers of a time."""

    id: str
    created_at: datetime
    version: str = Field(description="The champion: only its answers count.")
    dataset_version: str = Field(description="The dataset whose test split is the reference.")
    since: datetime
    until: datetime
    answers: int = Field(description="Answers of the champion in that time, of which `current_rows` were looked at.")
    reference_rows: int
    current_rows: int
    enough_rows: bool = Field(description="False: too few for a verdict on anything.")
    drift: bool = Field(description="Whether any column is an alarm.")
    columns: list[ColumnDrift]
    evidently: dict[str, Any] | None = Field(description="Evidently's own figures; null where it had nothing to comp.")
