"""The evaluation report as HTTP and files show it."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, Field

Mode = Literal["text", "image", "both"]


class Headline(BaseModel):
    """The metrics that every list of models shows."""

    rows: int
    accuracy: float
    f1_macro: float
    f1_weighted: float
    ece: float = Field(description="Expected calibration error: the mean difference between confidence and accuracy.")


class ClassReport(BaseModel):
    """Metrics of one category."""

    code: int
    label: str
    rows: int
    precision: float
    recall: float
    f1: float


class CalibrationBin(BaseModel):
    """Mean confidence and accuracy of the rows whose confidence falls into one of ten equal intervals."""

    rows: int
    confidence: float
    accuracy: float


class BundleMetrics(Headline):
    """The whole bundle on the test split."""

    accepted: float = Field(description="Share of the rows that are accepted without a review.")
    accepted_precision: float | None = Field(description="Share of the accepted that are right; null without any.")
    codes: list[int] = Field(description="Categories in the order of the confusion matrix.")
    confusion: list[list[int]] = Field(description="Rows by true category (outer) and predicted category (inner).")
    classes: list[ClassReport] = Field(description="Categories that are in the split or were predicted.")
    calibration: list[CalibrationBin]


class SelectiveReport(BaseModel):
    """Coverage and precision of thresholds for a promised precision."""

    mode: Mode
    promised: float
    coverage: float = Field(description="Share of the mode's rows that are accepted.")
    precision: float | None = Field(description="Share of the accepted that are right; null if none are accepted.")
    rows: int


class Selective(BaseModel):
    held_out: list[SelectiveReport] = Field(
        description="On training rows; both models and thresholds were fitted on other folds."
    )
    test: list[SelectiveReport] = Field(description="On the test split, with thresholds fitted on all training rows.")


class Accuracies(BaseModel):
    """Text, photo and both on the same rows; null where there are none."""

    rows: int
    text: float | None
    image: float | None
    both: float | None


class Disagreement(BaseModel):
    """Products of the test split with text and photo, by whether the two models name the same category."""

    rows: int
    share: float = Field(description="Share of the rows on which text and photo differ.")
    differing: Accuracies
    agreeing: Accuracies


class LearningCurve(BaseModel):
    """A metric by training epoch, or by the number of training rows."""

    modality: str
    figure: str = Field(examples=["f1_weighted"])
    axis: Literal["epochs", "rows"]
    x: list[float]
    train: list[float | None]
    held_out: list[float | None]


class Timing(BaseModel):
    """Milliseconds for a single product, from cleaned text and decoded photo to the prediction."""

    mode: Mode
    products: int = Field(description="How many were timed.")
    median_ms: float
    p95_ms: float


class EvaluationReport(BaseModel):
    """Quality and cost of a bundle; stored as `evaluation.json` in the bundle."""

    dataset_version: str
    test: BundleMetrics
    text: Headline | None = Field(description="Text alone, on the rows that have some.")
    image: Headline | None = Field(description="Photo alone, on the rows that have one.")
    selective: Selective
    disagreement: Disagreement | None = Field(description="Null where no product has both, or one model is missing.")
    curves: list[LearningCurve] = []
    timing: list[Timing] = []
    train_seconds: dict[str, float | None] = Field(
        default_factory=dict,
        description="By model. A model kept from an earlier bundle has its own time; null if unknown.",
    )
    bundle_bytes: int | None = Field(None, description="Size of all files except this report and its plots.")
