"""Print an evaluation report as tables."""

from __future__ import annotations

from collections.abc import Iterable

from rich.console import Console
from rich.table import Table

from rayonnage_shared.ml.evaluation.schemas import EvaluationReport, Headline, SelectiveReport

_MODES = {"text": "text", "image": "photo", "both": "text and photo"}


def print_report(console: Console, report: EvaluationReport, *, classes: bool) -> None:
    """Print headline metrics, selective prediction, disagreement and time per product; with `classes` each category."""
    _print_headline(console, report)
    if report.selective.test or report.selective.held_out:
        _print_selective(console, report)
    if report.disagreement is not None:
        _print_disagreement(console, report)
    if report.timing:
        console.print("\nOne product at a time")
        table = Table("input", "products", "median ms", "p95 ms")
        for one in report.timing:
            table.add_row(_MODES[one.mode], str(one.products), f"{one.median_ms:.1f}", f"{one.p95_ms:.1f}")
        console.print(table)
    if classes:
        table = Table("code", "category", "rows", "precision", "recall", "F1")
        for row in report.test.classes:
            table.add_row(str(row.code), row.label, str(row.rows), *map(share, (row.precision, row.recall, row.f1)))
        console.print(table)


def _print_headline(console: Console, report: EvaluationReport) -> None:
    console.print(f"Test split of {report.dataset_version}")
    table = Table("", "rows", "accuracy", "F1 macro", "F1 weighted", "ECE")
    parts: dict[str, Headline | None] = {"bundle": report.test, "text alone": report.text, "photo alone": report.image}
    for name, one in parts.items():
        if one is not None:
            table.add_row(name, str(one.rows), *map(share, (one.accuracy, one.f1_macro, one.f1_weighted, one.ece)))
    console.print(table)
    accepted, precision = share(report.test.accepted), share(report.test.accepted_precision)
    console.print(f"accepted with the bundle's thresholds: {accepted} of the rows, with precision {precision}")


def _print_selective(console: Console, report: EvaluationReport) -> None:
    console.print("\nSelective prediction: training rows out of fold, then the test split")
    table = Table("input", "promised", "rows", "accepted", "right", "test rows", "accepted", "right")
    held_out, test = _by_promise(report.selective.held_out), _by_promise(report.selective.test)
    for key in dict.fromkeys((*held_out, *test)):
        mode, promised = key
        table.add_row(_MODES[mode], f"{promised:.2f}", *_selective_cells(held_out, key), *_selective_cells(test, key))
    console.print(table)


def _by_promise(reports: Iterable[SelectiveReport]) -> dict[tuple[str, float], SelectiveReport]:
    return {(one.mode, one.promised): one for one in reports}


def _selective_cells(reports: dict[tuple[str, float], SelectiveReport], key: tuple[str, float]) -> tuple[str, str, str]:
    one = reports.get(key)
    return ("–", "–", "–") if one is None else (str(one.rows), share(one.coverage), share(one.precision))


def _print_disagreement(console: Console, report: EvaluationReport) -> None:
    found = report.disagreement
    assert found is not None
    console.print(f"\nText and photo differ on {share(found.share)} of {found.rows} rows that have both")
    table = Table("accuracy where they", "rows", "text", "photo", "both")
    for name, one in (("differ", found.differing), ("agree", found.agreeing)):
        table.add_row(name, str(one.rows), *map(share, (one.text, one.image, one.both)))
    console.print(table)


def share(value: float | None) -> str:
    """Return a number between 0 and 1 as the tables show it."""
    return "–" if value is None else f"{value:.3f}"
