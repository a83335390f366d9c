from __future__ import annotations

import io

from rich.console import Console

from rayonnage_shared.cli.report_tables import print_report
from rayonnage_shared.ml.evaluation.schemas import EvaluationReport, SelectiveReport, Timing
from tests.unit.shared.ml.evaluation.reports import some_report


def printed(report: EvaluationReport, *, classes: bool = False) -> str:
    """What stands on the terminal, with one space between words and without lines."""
    console = Console(file=io.StringIO(), width=140)
    print_report(console, report, classes=classes)
    assert isinstance(console.file, io.StringIO)
    return " ".join(console.file.getvalue().replace("│", " ").split())


def test_the_report_is_shown_in_tables() -> None:
    report, _, _ = some_report()
    held_out = SelectiveReport(mode="both", promised=0.95, coverage=0.5, precision=0.96, rows=40)
    report.selective.held_out = [held_out]
    report.selective.test = [held_out.model_copy(update={"coverage": 0.0, "precision": None, "rows": 9})]
    report.timing = [Timing(mode="image", products=7, median_ms=14.25, p95_ms=20.0)]

    text = printed(report)

    assert f"Test split of {report.dataset_version}" in text
    assert "text and photo 0.95 40 0.500 0.960 9 0.000 –" in text
    assert "Text and photo differ on 0.750 of 4 rows that have both" in text
    assert "photo 7 14.2 20.0" in text
    assert "Livres" not in text


def test_categories_are_shown_when_asked_for() -> None:
    assert "10 Livres > Livres d'occasion 2 1.000 1.000 1.000" in printed(some_report()[0], classes=True)


def test_what_an_old_bundle_lacks_leaves_no_empty_table() -> None:
    report, _, _ = some_report()

    text = printed(report.model_copy(update={"disagreement": None}))

    assert not {"Selective", "differ", "median"} & set(text.split())
