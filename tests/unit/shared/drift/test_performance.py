"""What feedback says of the champion, and when that is an alarm."""

from __future__ import annotations

from datetime import UTC, datetime

import numpy as np
import pytest

from rayonnage_shared.drift.performance import Expectation, performance_of
from rayonnage_shared.feedback.repository import LabelledAnswer
from tests.unit.shared.ml.bundles.manifests import a_manifest

NOW = datetime(2026, 11, 21, 12, tzinfo=UTC)
EXPECTED = Expectation(accuracy=0.8, rows=1000, promised_precision=0.95)


def answers(right: int, wrong: int, decision: str = "review") -> list[LabelledAnswer]:
    truths = [10] * right + [40] * wrong
    return [LabelledAnswer("p", NOW, "20261121T081500Z-3f2a", 10, 0.9, decision, truth) for truth in truths]


def test_a_large_fall_in_many_answers_is_an_alarm_in_words() -> None:
    found = performance_of(answers(120, 80), EXPECTED, NOW)
    assert (found.labelled, found.accuracy, found.alarm) == (200, 0.6, True)
    assert found.p_value is not None and found.p_value < 1e-4
    assert "on 200 predictions with feedback the accuracy is 60.0%, where 80.0%" in found.what


@pytest.mark.parametrize(
    ("right", "wrong", "expected"),
    [
        (160, 40, EXPECTED),  # as expected
        (200, 0, EXPECTED),  # better
        (20, 29, EXPECTED),  # below 50 answers
        (37, 18, EXPECTED),  # 13 points, which chance gives
        (7600, 2400, EXPECTED),  # beyond chance, and too small to matter
        (120, 80, Expectation(0.8, 40, 0.95)),  # 40 test products do not tell 0.8 from 0.6
        (120, 80, Expectation(None, None, None)),  # a bundle of which nothing is known
    ],
)
def test_what_is_small_or_may_be_chance_is_none(right: int, wrong: int, expected: Expectation) -> None:
    found = performance_of(answers(right, wrong), expected, NOW)
    assert not found.alarm
    assert found.what.startswith(f"{right / (right + wrong):.1%} of ")


def test_a_broken_promise_is_an_alarm_though_all_answers_together_are_as_expected() -> None:
    found = performance_of([*answers(75, 25, "accept"), *answers(85, 15)], EXPECTED, NOW)
    assert (found.accuracy, found.accepted, found.accepted_precision, found.alarm) == (0.8, 100, 0.75, True)
    assert "the precision of accepted ones is 75.0%, where 95.0% was promised" in found.what


def test_without_feedback_there_is_nothing_to_say() -> None:
    found = performance_of([], EXPECTED, NOW)
    assert (found.labelled, found.accuracy, found.accepted_precision, found.p_value) == (0, None, None, None)
    assert not found.alarm
    assert "there is no feedback" in found.what


def test_five_hundred_reports_of_an_unchanged_champion_give_no_alarm() -> None:
    random = np.random.default_rng(5)
    for _ in range(500):
        tested = Expectation(random.binomial(300, 0.8) / 300, 300, 0.95)  # a test split is a sample too
        right = int(random.binomial(400, 0.8))
        assert not performance_of(answers(right, 400 - right), tested, NOW).alarm


def test_expectations_stand_in_the_manifest() -> None:
    manifest = a_manifest(metrics={"accuracy": 0.8, "rows": 206.0}, promised_precision=0.9)
    assert Expectation.of(manifest) == Expectation(0.8, 206, 0.9)
    assert Expectation.of(a_manifest(metrics={}, promised_precision=0.9)) == Expectation(None, None, 0.9)
