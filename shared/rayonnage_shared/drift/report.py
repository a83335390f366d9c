"""Create drift reports; `report_files` reads them."""

from __future__ import annotations

import contextlib
import secrets
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import NamedTuple

from sqlalchemy import Engine
from sqlalchemy.exc import SQLAlchemyError

from rayonnage_shared.core.files import sync_to_disk, write_atomically
from rayonnage_shared.database.tables import PredictionRow
from rayonnage_shared.drift.evidently.report import EvidentlyFailed, EvidentlyMissing, EvidentlyReport, evidently_report
from rayonnage_shared.drift.observations import Observations, ScoredProduct, observe
from rayonnage_shared.drift.page import page
from rayonnage_shared.drift.performance import Expectation, performance_of
from rayonnage_shared.drift.reference import reference_of
from rayonnage_shared.drift.report_files import HTML_NAME, JSON_NAME, read_report, report_ids, reports_folder
from rayonnage_shared.drift.schemas import DriftDecision, DriftReport
from rayonnage_shared.drift.verdict import compare_columns, enough_rows
from rayonnage_shared.feedback.repository import LabelledAnswer, feedback_between
from rayonnage_shared.ml.base.progress import Progress, silent
from rayonnage_shared.ml.bundles.champion import read_champion
from rayonnage_shared.ml.bundles.manifest import BundleNotFound, read_manifest
from rayonnage_shared.predictions.repository import LogUnreadable, sample_predictions

MAX_ROWS = 2000
"""Predictions that are compared, drawn at random; as many as the reference has."""
REPORTS_KEPT = 100
"""The newest ones; each takes 4 MB."""
_LEFT_BEHIND_S = 3600
_UNFINISHED = ".making-"


Decide = Callable[[DriftReport], DriftDecision | None]
"""Decides what follows from a report, before it is written."""


def no_decision(_report: DriftReport) -> None:
    """Decide nothing."""


def make_report(
    engine: Engine,
    *,
    models_path: Path,
    data_path: Path,
    hours: float,
    feedback_days: float,
    report_id: str | None = None,
    decide: Decide = no_decision,
    evidently_needed: bool = True,
    progress: Progress = silent,
) -> tuple[DriftReport, Path]:
    """Compare the champion's predictions of the last hours with its reference; return the report and its folder.

    Takes up to 40 s on two idle cores, and as long again for the first report of a champion. If another process has
    written `report_id` in the meantime, its report is returned.

    Raises BundleNotFound without a champion, LogUnreadable, what `reference_of` raises, and, if Evidently is needed,
    EvidentlyMissing or EvidentlyFailed.
    """
    champion = read_champion(models_path)
    if champion is None:
        raise BundleNotFound("There is no champion to report on; train a model first.")
    until = datetime.now(UTC)
    since = until - timedelta(hours=hours)
    answers, rows = _answers(engine, champion.version, since, until)
    labelled_since = until - timedelta(days=feedback_days)
    labelled = _labelled(engine, champion.version, labelled_since, until)
    reference = reference_of(models_path, data_path, champion.version, progress)
    before = observe(reference.products, progress)
    current = observe(map(_scored, rows), progress)
    columns = compare_columns(before, current)
    report_id = report_id or new_report_id()
    with _new_folder(reports_folder(data_path), report_id) as folders:
        progress(0.5, "creating Evidently's report")
        evidently, note = _evidently(before, current, folders.work, needed=evidently_needed)
        report = DriftReport(
            id=report_id,
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
            performance=performance_of(
                labelled, Expectation.of(read_manifest(models_path, champion.version)), labelled_since
            ),
            evidently=evidently.metrics if evidently else None,
            evidently_note=note,
        )
        report = report.model_copy(update={"decision": decide(report)})
        write_atomically(folders.result / JSON_NAME, report.model_dump_json(indent=1).encode())
        write_atomically(folders.result / HTML_NAME, page(report, evidently.html if evidently else None).encode())
    _prune(data_path)
    return read_report(data_path, report_id), reports_folder(data_path) / report_id


def new_report_id() -> str:
    """Return an id; ids sort by creation time, even within one second."""
    return f"{datetime.now(UTC):%Y%m%dT%H%M%S%fZ}-{secrets.token_hex(2)}"


def _answers(engine: Engine, version: str, since: datetime, until: datetime) -> tuple[int, list[PredictionRow]]:
    with _readable():
        return sample_predictions(engine, version, since=since, until=until, limit=MAX_ROWS)


def _labelled(engine: Engine, version: str, since: datetime, until: datetime) -> list[LabelledAnswer]:
    with _readable():
        return feedback_between(engine, version, since, until)


@contextlib.contextmanager
def _readable() -> Iterator[None]:
    try:
        yield
    except SQLAlchemyError as error:
        reason = getattr(error, "orig", None) or error
        raise LogUnreadable(f"Start the database, then try again ({str(reason).splitlines()[0]}).") from error


def _evidently(
    before: Observations, current: Observations, work: Path, *, needed: bool
) -> tuple[EvidentlyReport | None, str | None]:
    """Return Evidently's report, or why it is missing."""
    try:
        return evidently_report(before, current, work), None
    except (EvidentlyMissing, EvidentlyFailed) as error:
        if needed:
            raise
        return None, f"Without Evidently's plots: {error.title}. {error.detail}"


def _scored(row: PredictionRow) -> ScoredProduct:
    return ScoredProduct(
        row.designation,
        row.description,
        row.has_image,
        row.category_id,
        row.confidence,
        row.text_probability,
        row.image_probability,
    )


class _ReportFolders(NamedTuple):
    """Where a report is created: `work` is removed, `result` becomes the report's folder."""

    work: Path
    result: Path


@contextlib.contextmanager
def _new_folder(folder: Path, name: str) -> Iterator[_ReportFolders]:
    """Yield where a report is created; it appears in one step when the block ends without an error."""
    folder.mkdir(parents=True, exist_ok=True)
    for left in folder.glob(f"{_UNFINISHED}*"):  # by a process that was killed
        if time.time() - left.stat().st_mtime > _LEFT_BEHIND_S:
            shutil.rmtree(left, ignore_errors=True)
    with tempfile.TemporaryDirectory(prefix=_UNFINISHED, dir=folder) as temporary:
        folders = _ReportFolders(Path(temporary) / "work", Path(temporary) / "result")
        for one in folders:
            one.mkdir()
        yield folders
        try:
            folders.result.rename(folder / name)
        except OSError:
            if not (folder / name / JSON_NAME).exists():
                raise
    sync_to_disk(folder)


def _prune(data_path: Path) -> None:
    for old in report_ids(data_path)[REPORTS_KEPT:]:
        shutil.rmtree(reports_folder(data_path) / old, ignore_errors=True)
