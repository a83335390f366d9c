"""The HTML page of a drift report, and its summary in one sentence."""

from __future__ import annotations

from html import escape

from rayonnage_shared.drift.schemas import ColumnDrift, DriftReport

_STYLE = """
.rayonnage { font: 15px/1.5 system-ui, sans-serif; max-width: 70rem; margin: 2rem auto; padding: 0 1rem; }
.rayonnage table { border-collapse: collapse; width: 100%; }
.rayonnage th, .rayonnage td { text-align: left; padding: .25rem .75rem .25rem 0; border-bottom: 1px solid #ddd; }
.rayonnage .alarm { color: #b00020; font-weight: 600; }
"""


def page(report: DriftReport, evidently_html: str | None) -> str:
    """Return Evidently's page with our own report above it, or our report alone."""
    ours = _section(report)
    if evidently_html is None:
        title = f"<title>Drift {report.id}</title>"
        return f'<!DOCTYPE html><html lang="en"><head><meta charset="utf-8">{title}</head><body>{ours}</body></html>\n'
    head, body, rest = evidently_html.partition("<body>")
    return f"{head}{body}{ours}{rest}" if body else f"{ours}{evidently_html}"


def summary(report: DriftReport) -> str:
    """Return the report in one sentence."""
    period = f"{report.since:%Y-%m-%d %H:%M} to {report.until:%Y-%m-%d %H:%M} UTC"
    counted = f"{report.current_rows} of {report.answers} predictions of {report.version}, {period}"
    if not report.enough_rows:
        return f"Too few rows for a verdict: {counted}; reference {report.reference_rows}."
    result = f"Drift in {', '.join(report.alarms)}" if report.alarms else "No drift"
    return f"{result}: {counted}; reference: {report.reference_rows} test products of {report.dataset_version}."


def cells_of(column: ColumnDrift) -> tuple[str, str, str, str, str]:
    """Return distance, threshold, p-value, rows (reference | current) and what has changed, formatted."""
    rows = f"{column.reference_rows} | {column.current_rows}"
    threshold = f"{column.threshold:g}"
    if column.distance is None or column.p_value is None:
        return "–", threshold, "–", rows, "too few rows"
    return f"{column.distance:.3f}", threshold, f"{column.p_value:.1g}", rows, column.what


def _section(report: DriftReport) -> str:
    rows = "".join(map(_row, report.columns))
    heads = "".join(f"<th>{name}</th>" for name in ("", "column", "distance", "alarm from", "p", "rows", "what"))
    paragraphs = [f"<p>{escape(summary(report))}</p>"]
    if report.performance is not None:
        mark = ' class="alarm"' if report.performance.alarm else ""
        paragraphs.append(f"<p{mark}>Feedback: {escape(report.performance.what)}</p>")
    if report.decision is not None:
        paragraphs.append(f"<p>Decision: {escape(report.decision.reason)}</p>")
    note = f"<p>{escape(report.evidently_note)}</p>" if report.evidently_note else ""
    return (
        f'<style>{_STYLE}</style><section class="rayonnage"><h1>Rayonnage: drift</h1>{"".join(paragraphs)}'
        f"<table><tr>{heads}</tr>{rows}</table>{note}</section>"
    )


def _row(column: ColumnDrift) -> str:
    cells = (column.name, *cells_of(column))
    mark = '<td class="alarm">alarm</td>' if column.drift else "<td></td>"
    return f"<tr>{mark}{''.join(f'<td>{escape(cell)}</td>' for cell in cells)}</tr>"
