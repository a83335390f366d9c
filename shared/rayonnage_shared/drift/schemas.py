"""Drift reports, as `drift_report.json` and HTTP show them."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from rayonnage_shared.core.validation import RequestModel

DriftMeasure = Literal["ks", "ks_fall", "cohen_h", "mean_shift"]

MIN_HOURS, MAX_HOURS = 0.01, 24 * 366


class DriftRequest(RequestModel):
    """Which predictions to compare with the champion's test split."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"hours": 24}]})

    hours: float = Field(24, ge=MIN_HOURS, le=MAX_HOURS, description="Hours of predictions to compare.")


class ColumnDrift(BaseModel):
    """One column: the distance of the predictions from the reference, and whether it raises an alarm."""

    name: str
    measure: DriftMeasure = Field(
        description="`ks`: Kolmogorov–Smirnov distance of numbers; `ks_fall`: the same, of falls only. `cohen_h`: "
        "Cohen's h of the value whose share has changed most significantly. `mean_shift`: squared distance of mean "
        "embeddings as a share of the variance."
    )
    distance: float | None = Field(description="Null where there are too few rows.")
    threshold: float = Field(
        description="The distance at which a column raises an alarm, if it is statistically significant."
    )
    p_value: float | None = Field(description="Probability of a distance as large by chance, in any of the columns.")
    drift: bool
    what: str = Field(description="The largest change, in words.")
    reference_rows: int
    current_rows: int


class Performance(BaseModel):
    """The champion's accuracy and precision by feedback, compared with the expected ones."""

    since: datetime = Field(
        description="Start of the predictions that count, until the report's end; their feedback may be later."
    )
    labelled: int = Field(description="Predictions with feedback on the true category.")
    accuracy: float | None = Field(description="Share of labelled predictions that are right; null if there are none.")
    expected_accuracy: float | None = Field(description="Accuracy of the champion on its test split.")
    expected_rows: int | None = Field(description="Number of test products that `expected_accuracy` was measured on.")
    accepted: int = Field(description="Labelled predictions whose decision was `accept`.")
    accepted_precision: float | None = Field(
        description="Share of accepted predictions that are right; null if there are none."
    )
    promised_precision: float | None
    p_value: float | None = Field(
        description="Probability of such a drop by chance, in either share; null if neither can be tested."
    )
    alarm: bool
    what: str = Field(description="The result in words.")


class DriftDecision(BaseModel):
    """The decision of the policy."""

    retrain: bool
    reason: str
    job_id: str | None = Field(None, description="The training that the report queues; null where it queues none.")


class DriftReport(BaseModel):
    """The reference compared with the predictions of a period."""

    id: str
    created_at: datetime
    version: str = Field(description="The champion; only its predictions count.")
    dataset_version: str = Field(description="The dataset whose test split is the reference.")
    since: datetime
    until: datetime
    answers: int = Field(
        description="Predictions of the champion in that period, of which `current_rows` were compared."
    )
    reference_rows: int
    current_rows: int
    enough_rows: bool = Field(description="False if there are too few for any alarm.")
    drift: bool = Field(description="Whether any column raises an alarm.")
    columns: list[ColumnDrift]
    performance: Performance | None = Field(
        None, description="Performance by feedback; null in reports of older versions."
    )
    decision: DriftDecision | None = Field(
        None, description="Null if the report was created by the command line, which queues nothing."
    )
    evidently: dict[str, Any] | None = Field(description="Evidently's own metrics; null without Evidently's report.")
    evidently_note: str | None = Field(None, description="Why the report has no part by Evidently.")

    @property
    def alarms(self) -> list[str]:
        """The columns that raise an alarm."""
        return [one.name for one in self.columns if one.drift]

    @property
    def feedback_alarm(self) -> bool:
        """Whether the champion is less accurate than expected, by feedback."""
        return self.performance is not None and self.performance.alarm


class DriftSummary(BaseModel):
    """Summary of a report."""

    id: str
    created_at: datetime
    version: str
    drift: bool
    alarms: list[str] = Field(description="The columns that raise an alarm.")
    feedback_alarm: bool = Field(description="Whether the champion is less accurate than expected, by feedback.")
    rows: int = Field(description="Predictions that were compared.")
    enough_rows: bool
    decision: DriftDecision | None


class DriftList(BaseModel):
    reports: list[DriftSummary]


class DriftLink(BaseModel):
    """A link that opens a report's page without a token."""

    url: str = Field(description="Path and query; prepend the address of the API. Keep it secret until it expires.")
    expires_at: datetime
