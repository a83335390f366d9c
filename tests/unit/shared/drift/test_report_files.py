"""Reports on disk: which there are, and that an id is nothing but an id."""

from __future__ import annotations

from pathlib import Path

import pytest

from rayonnage_shared.drift.page import page
from rayonnage_shared.drift.report import new_report_id
from rayonnage_shared.drift.report_files import (
    HTML_NAME,
    JSON_NAME,
    DriftReportBroken,
    DriftReportNotFound,
    newest_reports,
    read_report,
    report_ids,
    report_page,
)
from rayonnage_shared.drift.schemas import DriftReport
from tests.unit.shared.drift.reports import write_report

IDS = [f"202611{day}T120000000000Z-0a1b" for day in (19, 20, 21)]


def test_reports_are_listed_newest_first_and_nothing_else_is(tmp_path: Path) -> None:
    assert newest_reports(tmp_path, 5) == []
    for one in IDS:
        write_report(tmp_path, one)
    for other in ("references", ".making-x", "20261121T120000000000Z-0A1B"):
        (tmp_path / "drift" / other).mkdir()
    (tmp_path / "drift" / "20261122T120000000000Z-0a1b").mkdir()  # pruned in this moment
    assert report_ids(tmp_path)[1:] == IDS[::-1]
    assert [one.id for one in newest_reports(tmp_path, 3)] == IDS[:0:-1]


def test_reports_of_one_second_sort_as_they_were_made() -> None:
    made = [new_report_id() for _ in range(50)]
    assert made == sorted(made)


@pytest.mark.parametrize(
    "report_id", ["20261121T120000000000Z-ffff", "..", "../20261121T120000000000Z-0a1b", "", "\x00", "references"]
)
def test_what_is_no_report_is_not_found(tmp_path: Path, report_id: str) -> None:
    write_report(tmp_path, IDS[-1])
    (tmp_path / "drift" / "references").mkdir()
    for name in (JSON_NAME, HTML_NAME):
        (tmp_path / "drift" / "references" / name).write_text("{}")
        (tmp_path / "drift" / name).write_text("{}")
    for read in (read_report, report_page):
        with pytest.raises(DriftReportNotFound):
            read(tmp_path, report_id)


def test_a_report_from_before_there_was_feedback_can_be_read(tmp_path: Path) -> None:
    write_report(tmp_path, IDS[0])
    path = tmp_path / "drift" / IDS[0] / JSON_NAME
    older = DriftReport.model_validate_json(path.read_bytes()).model_dump_json(
        exclude={"performance", "decision", "evidently_note"}
    )
    path.write_text(older)
    report = read_report(tmp_path, IDS[0])
    assert (report.performance, report.decision, report.feedback_alarm) == (None, None, False)


def test_the_page_tells_the_verdict_the_feedback_and_the_decision_and_escapes_them(tmp_path: Path) -> None:
    html = page(write_report(tmp_path, IDS[0], what="<b>en</b> 1 % → 100 %", note="Install it"), None)
    for words in ("Drift in language", "&lt;b&gt;en", "Feedback: ", "Decision: No retraining", "Install it"):
        assert words in html
    assert "<b>en" not in html


@pytest.mark.parametrize("content", ["half a f", "[]", '{"id": 5}'])
def test_a_broken_report_is_named_and_the_others_are_listed(tmp_path: Path, content: str) -> None:
    for one in IDS:
        write_report(tmp_path, one)
    (tmp_path / "drift" / IDS[1] / JSON_NAME).write_text(content)

    assert [one.id for one in newest_reports(tmp_path, 3)] == [IDS[2], IDS[0]]
    with pytest.raises(DriftReportBroken, match=IDS[1]):
        read_report(tmp_path, IDS[1])
