"""Settings of drift reports."""

from __future__ import annotations

from pydantic import Field, field_validator

from rayonnage_shared.core.settings import StorageSettings


class DriftSettings(StorageSettings):
    """When drift is looked for, and what follows from it."""

    drift_every_h: float = Field(
        24, ge=0, le=24 * 366, description="Hours between two drift reports that nobody asks for; 0 for none."
    )
    drift_feedback_days: float = Field(
        30, gt=0, le=3660, description="How far back feedback counts in a drift report: the truth comes late."
    )
    drift_retrain: bool = Field(True, description="Queue a training when a drift report gives reason to.")
    drift_min_rows: int = Field(300, ge=1, description="Answers below which drift of columns queues no training.")
    drift_cool_down_h: float = Field(
        168, ge=0, description="Hours after any training in which drift queues none, so that it does not train daily."
    )
    drift_retrain_columns: str = Field(
        "", description="Columns whose alarm may queue a training, by commas; empty for all (docs/drift.md names them)."
    )

    @field_validator("drift_retrain_columns")
    @classmethod
    def _known_columns(cls, value: str) -> str:
        named = {one.strip() for one in value.split(",") if one.strip()}
        if named:
            from rayonnage_shared.drift.verdict import column_names  # what it needs is not in every image

            unknown = named - {*column_names()}
            if unknown:
                known = ", ".join(column_names())
                raise ValueError(f"DRIFT_RETRAIN_COLUMNS names {', '.join(sorted(unknown))}; there are {known}")
        return value
