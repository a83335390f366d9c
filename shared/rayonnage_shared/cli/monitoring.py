"""`rayonnage monitor`: compare recent predictions with the champion's test split."""

from __future__ import annotations

from typing import Annotated

import typer
from rich.box import SIMPLE
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Column, Table

from rayonnage_shared.core.settings import DatabaseSettings
from rayonnage_shared.drift.schemas import MAX_HOURS, MIN_HOURS, DriftReport
from rayonnage_shared.drift.settings import DriftSettings

EXIT_DRIFT = 3
DATABASE_WAIT_S = 10


class MonitorSettings(DriftSettings, DatabaseSettings):
    """Settings of this command."""


def register(app: typer.Typer) -> None:
    """Add the drift command."""
    app.command()(monitor)


def monitor(
    hours: Annotated[
        float, typer.Option(min=MIN_HOURS, max=MAX_HOURS, help="Period of predictions to compare, in hours before now.")
    ] = 24.0,
    fail_on_drift: Annotated[bool, typer.Option("--fail-on-drift", help="Exit with status 3 on drift.")] = False,
) -> None:
    """Compare the champion's recent predictions with its test split, and write a drift report below data/drift.

    This command never starts a training; drift jobs do (POST /drift, DRIFT_EVERY_H).
    """
    from rayonnage_shared.database.engine import open_database
    from rayonnage_shared.drift.page import summary
    from rayonnage_shared.drift.report import make_report

    settings = MonitorSettings()
    engine = open_database(settings.database_url, wait_s=DATABASE_WAIT_S)
    columns = (BarColumn(), TimeElapsedColumn(), TextColumn("{task.fields[message]}"))
    try:
        with Progress(*columns, console=Console(stderr=True), transient=True) as bar:
            task = bar.add_task("", total=1.0, message="")
            report, folder = make_report(
                engine,
                models_path=settings.models_path,
                data_path=settings.data_path,
                hours=hours,
                feedback_days=settings.drift_feedback_days,
                progress=lambda fraction, message: bar.update(task, completed=fraction, message=message),
            )
    finally:
        engine.dispose()
    Console().print(_table(report))
    print(summary(report))
    if report.performance is not None:
        print(f"Feedback: {report.performance.what}")
    print(f"Reports: {folder}")
    if fail_on_drift and (report.drift or report.feedback_alarm):
        raise typer.Exit(EXIT_DRIFT)


def _table(report: DriftReport) -> Table:
    from rayonnage_shared.drift.page import cells_of

    heads = ("", "column", "distance", "alarm from", "p", "rows")
    table = Table(*(Column(head, no_wrap=True) for head in heads), "what", box=SIMPLE, padding=(0, 1, 0, 0))
    for column in report.columns:
        table.add_row("[red]alarm[/red]" if column.drift else "", column.name, *map(escape, cells_of(column)))
    return table
