"""Drift reports on disk: `<data>/drift/<id>/drift_report.json` and `.html`, there both or not at all.

`report` writes them; this module only reads.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

from rayonnage_shared.core.errors import NotFound
from rayonnage_shared.drift.schemas import DriftReport, DriftSummary

HTML_NAME, JSON_NAME = "drift_report.html", "drift_report.json"
_ID = re.compile(r"[0-9]{8}T[0-9]{12}Z-[0-9a-f]{4}")


class DriftReportNotFound(NotFound):
    code, title = "drift_report_not_found", "There is no such drift report"


def reports_folder(data_path: Path) -> Path:
    """Return where reports are, whether or not there are any."""
    return data_path / "drift"


def report_ids(data_path: Path) -> list[str]:
    """Return the ids of the reports, newest first."""
    folder = reports_folder(data_path)
    if not folder.is_dir():
        return []
    return sorted((path.name for path in folder.iterdir() if _ID.fullmatch(path.name)), reverse=True)


def read_report(data_path: Path, report_id: str) -> DriftReport:
    """Return a report. Raises DriftReportNotFound, whatever else the id may be."""
    if _ID.fullmatch(report_id):
        try:
            content = (reports_folder(data_path) / report_id / JSON_NAME).read_bytes()
        except FileNotFoundError:
            pass
        else:
            return DriftReport.model_validate_json(content)
    raise DriftReportNotFound("There is no drift report with this id; GET /drift lists them.")


def report_page(data_path: Path, report_id: str) -> Path:
    """Return the file with a report's page. Raises DriftReportNotFound."""
    path = reports_folder(data_path) / report_id / HTML_NAME
    if _ID.fullmatch(report_id) and path.is_file():
        return path
    raise DriftReportNotFound("There is no drift report with this id; GET /drift lists them.")


def newest_reports(data_path: Path, limit: int) -> list[DriftSummary]:
    """Return the newest reports in short, newest first."""
    return [summarised(report) for report in _read(data_path, report_ids(data_path)[:limit])]


def summarised(report: DriftReport) -> DriftSummary:
    """Return what a list shows of a report."""
    return DriftSummary(
        id=report.id,
        created_at=report.created_at,
        version=report.version,
        drift=report.drift,
        alarms=report.alarms,
        feedback_alarm=report.feedback_alarm,
        rows=report.current_rows,
        enough_rows=report.enough_rows,
        decision=report.decision,
    )


def _read(data_path: Path, ids: list[str]) -> Iterator[DriftReport]:
    for report_id in ids:
        try:
            yield read_report(data_path, report_id)
        except DriftReportNotFound:  # pruned since
            continue
