"""Settings of a training pipeline."""

from __future__ import annotations

from pydantic import Field

from rayonnage_shared.core.settings import StorageSettings


class PipelineSettings(StorageSettings):
    """How bundles are trained, compared and kept."""

    promised_precision: float = Field(
        0.95,
        gt=0.5,
        lt=1,
        description="Precision that `decision: accept` keeps with 90 % confidence; higher accepts fewer products.",
    )
    gate_class_margin: float = Field(
        0.05, ge=0, le=1, description="How much F1 a category with 30 test rows or more may lose in a promotion."
    )
    bundles_kept: int = Field(
        10, ge=1, description="Newest bundles kept after a training; the champion and what it came from always stay."
    )
    datasets_kept: int = Field(
        10, ge=1, description="Newest dataset versions kept after a training; those that kept bundles name always stay."
    )
