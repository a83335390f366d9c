"""Settings of drift reports."""

from __future__ import annotations

from pydantic import Field, field_validator

from rayonnage_shared.core.settings import StorageSettings
from rayonnage_shared.core.validation import wrong_value


class DriftSettings(StorageSettings):
    """When drift reports are created, and what follows from them."""

    drift_every_h: float = Field(
        24, ge=0, le=24 * 366, description="Hours between two scheduled drift reports; 0 for none."
    )
    drift_feedback_days: float = Field(
        30, gt=0, le=3660, description="Days of feedback that a drift report counts; feedback arrives late."
    )
    drift_retrain: bool = Field(True, description="Queue a training if a drift report calls for one.")
    drift_min_rows: int = Field(
        300, ge=1, description="Predictions that a drift report needs to queue a training because of a column."
    )
    drift_cool_down_h: float = Field(
        168, ge=0, description="Hours after a successful training during which drift queues none."
    )
    drift_retrain_columns: str = Field(
        "",
        description="Columns whose alarm may queue a training, separated by commas; empty for all (see docs/drift.md).",
    )

    @field_validator("drift_retrain_columns")
    @classmethod
    def _known_columns(cls, value: str) -> str:
        named = {one.strip() for one in value.split(",") if one.strip()}
        if named:
            from rayonnage_shared.drift.verdict import column_names  # its dependencies are not in every image

            unknown = named - {*column_names()}
            if unknown:
                known = ", ".join(column_names())
                raise wrong_value(f"names {', '.join(sorted(unknown))}, but the columns are {known}")
        return value
