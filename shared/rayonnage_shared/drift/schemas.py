"""What a drift report says, as it stands in `drift_report.json`, and the bodies of `/drift`."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

DriftMeasure = Literal["ks", "ks_fall", "cohen_h", "mean_shift"]

MIN_HOURS, MAX_HOURS = 0.01, 24 * 366


class DriftRequest(BaseModel):
    """Which answers to compare with the champion's test split."""

    model_config = ConfigDict(extra="forbid")

    hours: float = Field(24, ge=MIN_HOURS, le=MAX_HOURS, description="How far back answers count.")


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


class Performance(BaseModel):
    """How often the champion was right, as feedback says, against what its test split and its promise led to expect."""

    since: datetime = Field(description="Answers since then count, until the report's end; the truth may be later.")
    labelled: int = Field(description="Answers of which the truth is known.")
    accuracy: float | None = Field(description="Share of them that are right; null without any.")
    expected_accuracy: float | None = Field(description="Of the champion on its test split.")
    expected_rows: int | None = Field(description="How many test products that stands on.")
    accepted: int = Field(description="Labelled answers whose decision was `accept`.")
    accepted_precision: float | None = Field(description="Share of those that are right; null without any.")
    promised_precision: float | None
    p_value: float | None = Field(description="How often chance gives such a fall, of either share; null without any.")
    alarm: bool
    what: str = Field(description="The verdict in words.")


class DriftDecision(BaseModel):
    """What the policy made of a report."""

    retrain: bool
    reason: str
    job_id: str | None = Field(None, description="The training that the report queues; null where it queues none.")


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
    performance: Performance | None = Field(None, description="By feedback; null in reports from before there was any.")
    decision: DriftDecision | None = Field(None, description="Null where the report was made by hand: it only tells.")
    evidently: dict[str, Any] | None = Field(description="Evidently's own metrics; null if it made no report.")
    evidently_note: str | None = Field(None, description="Why Evidently has no part in this report.")

    @property
    def alarms(self) -> list[str]:
        """The columns that are an alarm."""
        return [one.name for one in self.columns if one.drift]

    @property
    def feedback_alarm(self) -> bool:
        """Whether feedback says that the champion has become worse."""
        return self.performance is not None and self.performance.alarm


class DriftSummary(BaseModel):
    """A report in short."""

    id: str
    created_at: datetime
    version: str
    drift: bool
    alarms: list[str] = Field(description="The columns that are an alarm.")
    feedback_alarm: bool = Field(description="Whether the champion is right less often than it should be.")
    rows: int = Field(description="Answers that were compared.")
    enough_rows: bool
    decision: DriftDecision | None


class DriftList(BaseModel):
    reports: list[DriftSummary]
