"""Drift reports on disk: `<data>/drift/<id>/drift_report.json` and `.html`, there both or not at all.

`report` writes them; this module only reads.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import structlog
from pydantic import ValidationError

from rayonnage_shared.core.errors import NotFound, RayonnageError
from rayonnage_shared.core.validation import first_fault
from rayonnage_shared.drift.schemas import DriftReport, DriftSummary

log = structlog.get_logger()

HTML_NAME, JSON_NAME = "drift_report.html", "drift_report.json"
_NO_SUCH_REPORT = "There is no drift report with this id; GET /drift lists them."
_ID = re.compile(r"[0-9]{8}T[0-9]{12}Z-[0-9a-f]{4}")


class DriftReportNotFound(NotFound):
    code, title = "drift_report_not_found", "There is no such drift report"


class DriftReportBroken(RayonnageError):
    code, title = "drift_report_broken", "A drift report is damaged"


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
    """Return a report. Raises DriftReportNotFound for any other id, or DriftReportBroken."""
    if _ID.fullmatch(report_id):
        try:
            return DriftReport.model_validate_json((reports_folder(data_path) / report_id / JSON_NAME).read_bytes())
        except FileNotFoundError:
            pass
        except OSError as error:
            raise DriftReportBroken(f"Drift report {report_id} cannot be read: {error.strerror}.") from error
        except ValidationError as error:
            raise DriftReportBroken(f"Drift report {report_id} is not valid: {first_fault(error)}.") from error
    raise DriftReportNotFound(_NO_SUCH_REPORT)


def report_page(data_path: Path, report_id: str) -> Path:
    """Return the file with a report's page. Raises DriftReportNotFound."""
    path = reports_folder(data_path) / report_id / HTML_NAME
    if _ID.fullmatch(report_id) and path.is_file():
        return path
    raise DriftReportNotFound(_NO_SUCH_REPORT)


def newest_reports(data_path: Path, limit: int) -> list[DriftSummary]:
    """Return summaries of the newest reports, newest first."""
    return [summarised(report) for report in _readable(data_path, limit)]


def _readable(data_path: Path, limit: int) -> Iterator[DriftReport]:
    """Yield the newest `limit` reports, newest first, except those that are broken, which are logged."""
    for report_id in report_ids(data_path)[:limit]:
        try:
            yield read_report(data_path, report_id)
        except DriftReportNotFound:  # pruned in the meantime
            continue
        except DriftReportBroken as error:
            log.warning("drift.report_broken", report_id=report_id, error=error.detail)


def summarised(report: DriftReport) -> DriftSummary:
    """Return the summary of a report."""
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
