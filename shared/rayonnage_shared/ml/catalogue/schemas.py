"""Response bodies of ingest: reports and dataset versions."""

from __future__ import annotations

from datetime import datetime

from pydantic import BaseModel, Field


class Reject(BaseModel):
    line: int = Field(description="Line of the features file at which the row ends; the header is line 1.")
    reason: str


class IngestReport(BaseModel):
    ingest_id: str
    dataset_version: str | None = Field(
        description="The version that contains these rows; null if all were rejected and there is no data."
    )
    rows_total: int
    rows_added: int
    rows_duplicate: int
    rows_rejected: int
    conflicts: int = Field(description="Rows whose ids or content had another label; the newest label wins.")
    images_added: int
    images_rejected: int = Field(0, description="Photos that were rejected; their rows are kept if they have text.")
    feedback_skipped: int = Field(
        0,
        description="Feedback that was not ingested: the product has no stored text (photos are not stored), or the "
        "model was trained on the demo catalogue and the dataset is real, or the other way round.",
    )
    rejects: list[Reject] = Field(description="The first 100 rejected rows and photos.")
    conflict_rows: list[Reject] = Field(default_factory=list, description="The first 100 conflicts.")
    report_url: str


class Dataset(BaseModel):
    version: str
    parent: str | None
    demo: bool
    created_at: datetime
    rows: int
    rows_with_image: int
    rows_train: int
    rows_test: int
    sha256: str = Field(description="Hash of the products file.")
    classes: dict[str, int] = Field(description="Rows by product type code.")


class DatasetList(BaseModel):
    current: str | None
    datasets: list[Dataset]
    broken: dict[str, str] = Field(
        default_factory=dict, description="By version, why a version that is not listed cannot be read."
    )
