"""What is given to Evidently, and what it makes of it."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest

from rayonnage_shared.drift.evidently.report import (
    MAX_VALUES,
    TEXT_DISTANCE,
    EvidentlyFailed,
    comparable,
    evidently_report,
)
from rayonnage_shared.drift.observations import COLUMNS, Observations, ScoredProduct, observe

WORDS = ("piscine", "chaise", "livre", "jeu", "lampe", "tapis")


@pytest.fixture(scope="module")
def products() -> Observations:
    """60 products of the smallest vocabulary, without a description."""
    return observe(
        ScoredProduct(f"{WORDS[i % 6]} {WORDS[i % 5]}", None, i % 2 == 0, i, 0.5 + i / 200, 0.5 + i / 150, None)
        for i in range(60)
    )


def test_columns_that_evidently_cannot_compare_are_left_out(products: Observations) -> None:
    before, after = comparable(products, products)
    left_out = {*COLUMNS, TEXT_DISTANCE} - set(before.columns)
    assert {"has_title", "has_description", "description_words", "photo_confidence"} <= left_out
    assert {"category", "has_photo", "confidence", TEXT_DISTANCE} <= set(after.columns)
    assert before["category"].nunique() == MAX_VALUES + 1


def test_a_few_answers_give_no_report_and_need_no_evidently(products: Observations, tmp_path: Path) -> None:
    assert evidently_report(products, products.take(np.arange(5)), tmp_path) is None
    assert evidently_report(products.take(np.arange(0)), products, tmp_path) is None


@pytest.mark.system
def test_evidently_makes_a_page_that_needs_nothing_from_elsewhere(products: Observations, tmp_path: Path) -> None:
    report = evidently_report(products, products.take(np.arange(40)), tmp_path)
    assert report is not None
    assert "<body>" in report.html
    assert not re.search(r"<(script|link|img)[^>]+(src|href)=.?https?:", report.html)
    drifts = [one for one in report.metrics["metrics"] if one["metric_name"].startswith("ValueDrift")]
    assert len(drifts) == len(comparable(products, products)[0].columns)


@pytest.mark.system
def test_evidently_has_limited_time(products: Observations, tmp_path: Path) -> None:
    with pytest.raises(EvidentlyFailed, match=r"0\.1 s"):
        evidently_report(products, products, tmp_path, limit_s=0.1)
