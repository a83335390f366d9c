"""Drift reports: `<data>/drift/<id>/drift_report.json` and `.html`, there both or not at all."""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
import tempfile
import time
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from html import escape
from pathlib import Path

from sqlalchemy import Engine
from sqlalchemy.exc import SQLAlchemyError

from rayonnage_shared.atomic_files import write_atomically
from rayonnage_shared.contracts.drift import ColumnDrift, DriftReport
from rayonnage_shared.database.tables import PredictionRow
from rayonnage_shared.drift.evidently_report import EvidentlyReport, evidently_report
from rayonnage_shared.drift.observations import JudgedProduct, observe
from rayonnage_shared.drift.reference import reference_of
from rayonnage_shared.drift.verdict import enough_rows, judge
from rayonnage_shared.ml.bundle import BundleNotFound
from rayonnage_shared.ml.champion import read_champion
from rayonnage_shared.ml.progress import Progress, silent
from rayonnage_shared.prediction_rows import LogUnreadable, sample_predictions

MAX_ROWS = 2000
"""Of answers that are looked at, drawn by chance; as many as of the reference."""
REPORTS_KEPT = 100
"""The newest; one weighs 4 MB."""
HTML_NAME, JSON_NAME = "drift_report.html", "drift_report.json"
_LEFT_BEHIND_S = 3600
_MAKING = ".making-"


def make_report(
    engine: Engine, *, models_path: Path, data_path: Path, hours: float, progress: Progress = silent
) -> tuple[DriftReport, Path]:
    """Compare the champion's answers of the last hours with its reference; return the report and its folder.

    Takes about 40 s at most on two idle cores, and once for each champion as long again. Raises BundleNotFound without
    a champion, LogUnreadable, EvidentlyMissing or EvidentlyFailed, and what `reference_of` raises.
    """
    champion = read_champion(models_path)
    if champion is None:
        raise BundleNotFound("There is no champion whose answers could drift; train one first.")
    until = datetime.now(UTC)
    since = until - timedelta(hours=hours)
    answers, rows = _answers(engine, champion.version, since, until)
    reference = reference_of(models_path, data_path, champion.version, progress)
    before = observe(reference.judged, progress)
    current = observe(map(_judged, rows), progress)
    columns = judge(before, current)
    with _new_folder(data_path / "drift") as making:
        progress(0.5, "Evidently compares")
        evidently = evidently_report(before, current, making.work)
        report = DriftReport(
            id=making.id,
            created_at=until,
            version=champion.version,
            dataset_version=reference.dataset_version,
            since=since,
            until=until,
            answers=answers,
            reference_rows=len(before),
            current_rows=len(current),
            enough_rows=enough_rows(before, current),
            drift=any(one.drift for one in columns),
            columns=columns,
            evidently=evidently.figures if evidently else None,
        )
        write_atomically(making.result / JSON_NAME, report.model_dump_json(indent=1).encode())
        write_atomically(making.result / HTML_NAME, page(report, evidently).encode())
    _prune(data_path / "drift")
    return report, data_path / "drift" / report.id


def _answers(engine: Engine, version: str, since: datetime, until: datetime) -> tuple[int, list[PredictionRow]]:
    try:
        return sample_predictions(engine, version, since=since, until=until, limit=MAX_ROWS)
    except SQLAlchemyError as error:
        reason = getattr(error, "orig", None) or error
        raise LogUnreadable(f"Start the database, then try again ({str(reason).splitlines()[0]}).") from error


def _judged(row: PredictionRow) -> JudgedProduct:
    return JudgedProduct(
        row.designation,
        row.description,
        row.has_image,
        row.category_id,
        row.confidence,
        row.text_probability,
        row.image_probability,
    )


class _Making:
    """A report in the making: `work` goes, `result` becomes the folder `id`."""

    def __init__(self, folder: Path) -> None:
        self.id = f"{datetime.now(UTC):%Y%m%dT%H%M%SZ}-{secrets.token_hex(2)}"
        self.work, self.result = folder / "work", folder / "result"
        for one in (self.work, self.result):
            one.mkdir()


@contextlib.contextmanager
def _new_folder(folder: Path) -> Iterator[_Making]:
    """Yield where a report is made; it comes into sight in one step when the block ends well."""
    folder.mkdir(parents=True, exist_ok=True)
    for left in folder.glob(f"{_MAKING}*"):  # by a process that was killed
        if time.time() - left.stat().st_mtime > _LEFT_BEHIND_S:
            shutil.rmtree(left, ignore_errors=True)
    with tempfile.TemporaryDirectory(prefix=_MAKING, dir=folder) as temporary:
        making = _Making(Path(temporary))
        yield making
        making.result.rename(folder / making.id)
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def _prune(folder: Path) -> None:
    reports = sorted(path.parent for path in folder.glob(f"2*/{JSON_NAME}"))
    for old in reports[:-REPORTS_KEPT]:
        shutil.rmtree(old, ignore_errors=True)


_STYLE = """
.rayonnage { font: 15px/1.5 system-ui, sans-serif; max-width: 70rem; margin: 2rem auto; padding: 0 1rem; }
.rayonnage table { border-collapse: collapse; width: 100%; }
.rayonnage th, .rayonnage td { text-align: left; padding: .25rem .75rem .25rem 0; border-bottom: 1px solid #ddd; }
.rayonnage .alarm { color: #b00020; font-weight: 600; }
"""


def page(report: DriftReport, evidently: EvidentlyReport | None) -> str:
    """Return Evidently's page with our verdict above it, or the verdict alone."""
    ours = _section(report)
    if evidently is None:
        title = f"<title>Drift {report.id}</title>"
        return f'<!DOCTYPE html><html lang="en"><head><meta charset="utf-8">{title}</head><body>{ours}</body></html>\n'
    head, body, rest = evidently.html.partition("<body>")
    return f"{head}{body}{ours}{rest}" if body else f"{ours}{evidently.html}"


def summary(report: DriftReport) -> str:
    """Return the report in one sentence."""
    period = f"{report.since:%Y-%m-%d %H:%M} to {report.until:%Y-%m-%d %H:%M} UTC"
    counted = f"{report.current_rows} of {report.answers} answers of {report.version}, {period}"
    if not report.enough_rows:
        return f"Too few rows for a verdict: {counted}; reference {report.reference_rows}."
    alarms = [one.name for one in report.columns if one.drift]
    found = f"Drift in {', '.join(alarms)}" if alarms else "No drift"
    return f"{found}: {counted}; reference: {report.reference_rows} test products of {report.dataset_version}."


def _section(report: DriftReport) -> str:
    rows = "".join(map(_row, report.columns))
    heads = "".join(f"<th>{name}</th>" for name in ("", "column", "distance", "alarm from", "p", "rows", "what"))
    return (
        f'<style>{_STYLE}</style><section class="rayonnage"><h1>Rayonnage: drift</h1><p>{escape(summary(report))}</p>'
        f"<table><tr>{heads}</tr>{rows}</table></section>"
    )


def _row(column: ColumnDrift) -> str:
    cells = (column.name, *cells_of(column))
    mark = '<td class="alarm">alarm</td>' if column.drift else "<td></td>"
    return f"<tr>{mark}{''.join(f'<td>{escape(cell)}</td>' for cell in cells)}</tr>"


def cells_of(column: ColumnDrift) -> tuple[str, str, str, str, str]:
    """Return distance, threshold, p-value, rows (reference | current) and what has changed, as people read them."""
    rows = f"{column.reference_rows} | {column.current_rows}"
    threshold = f"{column.threshold:g}"
    if column.distance is None or column.p_value is None:
        return "–", threshold, "–", rows, "too few rows"
    return f"{column.distance:.3f}", threshold, f"{column.p_value:.1g}", rows, column.what
