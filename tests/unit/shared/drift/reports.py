"""A drift report for tests, without the work of making one."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

from rayonnage_shared.drift.page import page
from rayonnage_shared.drift.report_files import HTML_NAME, JSON_NAME
from rayonnage_shared.drift.schemas import ColumnDrift, DriftDecision, DriftReport, Performance

MADE_AT = datetime(2026, 11, 21, 12, tzinfo=UTC)


def column(name: str, distance: float | None, *, drift: bool = False, what: str = "") -> ColumnDrift:
    return ColumnDrift(
        name=name,
        measure="cohen_h",
        distance=distance,
        threshold=0.15,
        p_value=None if distance is None else 1e-9,
        drift=drift,
        what=what,
        reference_rows=206,
        current_rows=120,
    )


def report(report_id: str, *, what: str = "en 1 % → 100 %", note: str | None = None) -> DriftReport:
    """Return a report with an alarm for the language and none for the category."""
    since = MADE_AT - timedelta(days=30)
    return DriftReport(
        id=report_id,
        created_at=MADE_AT,
        version="20261121T081500Z-3f2a",
        dataset_version="20261121T080000Z-3f2a",
        since=MADE_AT - timedelta(days=1),
        until=MADE_AT,
        answers=150,
        reference_rows=206,
        current_rows=120,
        enough_rows=True,
        drift=True,
        columns=[
            column("language", 1.2, drift=True, what=what),
            column("category", 0.05),
            column("photo_confidence", None),
        ],
        performance=Performance(
            since=since,
            labelled=80,
            accuracy=0.5,
            expected_accuracy=0.8,
            expected_rows=206,
            accepted=0,
            accepted_precision=None,
            promised_precision=0.95,
            p_value=1e-6,
            alarm=True,
            what="on 80 predictions with feedback the accuracy is 50.0%.",
        ),
        decision=DriftDecision(retrain=False, reason="No retraining: a training is already queued or running."),
        evidently=None,
        evidently_note=note,
    )


def write_report(
    data_path: Path, report_id: str, *, what: str = "en 1 % → 100 %", note: str | None = None
) -> DriftReport:
    """Write such a report where reports are, and return it."""
    made = report(report_id, what=what, note=note)
    folder = data_path / "drift" / report_id
    folder.mkdir(parents=True)
    (folder / JSON_NAME).write_text(made.model_dump_json())
    (folder / HTML_NAME).write_text(page(made, None))
    return made
