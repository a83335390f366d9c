"""`rayonnage monitor` on the answers of a real champion: from the log of predictions to the reports."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from rayonnage_shared.cli.monitoring import EXIT_DRIFT
from rayonnage_shared.drift.reference import reference_of
from rayonnage_shared.drift.report_files import HTML_NAME, JSON_NAME
from rayonnage_shared.ml.bundle import BundleNotFound
from rayonnage_shared.ml.champion import POINTER_NAME
from rayonnage_shared.prediction_rows import LogUnreadable
from tests.ml.answered_shop import AnsweredShop, Sent, trained_shop


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> AnsweredShop:
    return trained_shop(tmp_path_factory.mktemp("shop"))


@pytest.fixture
def shop(trained: AnsweredShop, tmp_path: Path) -> AnsweredShop:
    """A copy of the shop, which nobody has asked anything yet."""
    shutil.copytree(trained.folder, tmp_path, dirs_exist_ok=True)
    return AnsweredShop(tmp_path)


def test_a_few_answers_give_both_reports_and_no_verdict(shop: AnsweredShop) -> None:
    shop.answer(shop.unseen()[:5])

    result = shop.monitor("--fail-on-drift")

    assert result.exit_code == 0, result.output
    assert "Too few rows for a verdict: 5 of 5 answers" in result.output
    (folder,) = shop.reports()
    assert sorted(path.name for path in folder.iterdir()) == [HTML_NAME, JSON_NAME]
    report = shop.newest()
    assert (report.version, report.answers, report.enough_rows, report.drift) == (shop.champion, 5, False, False)
    assert "Too few rows" in (folder / HTML_NAME).read_text()


def test_answers_from_before_the_window_do_not_count(shop: AnsweredShop) -> None:
    shop.answer(shop.unseen()[:1])
    assert shop.monitor("--hours", "0.01").exit_code == 0
    assert shop.newest().answers == 1
    shop.forget_answers()
    assert shop.monitor().exit_code == 0
    assert shop.newest().answers == 0


def test_what_the_champion_says_of_the_reference_is_asked_once(shop: AnsweredShop) -> None:
    paths = (shop.folder / "models", shop.folder / "data", shop.champion)
    first = reference_of(*paths)
    (kept,) = (shop.folder / "data" / "drift" / "references").iterdir()
    written = kept.stat().st_mtime_ns
    assert len(first.judged) > 150
    assert reference_of(*paths) == first
    assert kept.stat().st_mtime_ns == written
    kept.write_bytes(b"half a file")
    assert reference_of(*paths) == first


def test_without_a_champion_or_a_log_one_sentence_says_so(shop: AnsweredShop) -> None:
    (shop.folder / "data" / "rayonnage.db").unlink()
    assert isinstance(shop.monitor().exception, LogUnreadable)
    (shop.folder / "models" / POINTER_NAME).unlink()
    assert isinstance(shop.monitor().exception, BundleNotFound)
    assert not shop.reports()


@pytest.mark.system
def test_the_pages_show_our_verdict_and_evidentlys(shop: AnsweredShop) -> None:
    shop.answer(shop.unseen())

    result = shop.monitor("--fail-on-drift")

    assert result.exit_code == 0, result.output
    assert "No drift" in result.output
    report = shop.newest()
    assert report.enough_rows and report.evidently is not None
    html = (shop.reports()[0] / HTML_NAME).read_text(encoding="utf-8")
    assert html.index("<body>") < html.index("Rayonnage: drift") < html.index("root_metric")
    assert not list((shop.folder / "data" / "drift").glob(".making*"))


@pytest.mark.system
def test_drift_fails_the_command_where_that_is_asked_for(shop: AnsweredShop) -> None:
    shop.answer(Sent(f"Large blue swimming pool cover for the whole family, size {size}") for size in range(100))

    assert shop.monitor().exit_code == 0
    assert shop.monitor("--fail-on-drift").exit_code == EXIT_DRIFT
    assert {one.name for one in shop.newest().columns if one.drift} >= {"language", "category", "embedding"}
