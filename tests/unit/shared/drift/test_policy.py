"""The policy: which reports cause a training, and what is said when they do not."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from rayonnage_shared.core.errors import InvalidSetting
from rayonnage_shared.drift.policy import Facts, Policy, decide
from rayonnage_shared.drift.settings import DriftSettings

NOW = datetime(2026, 11, 21, 12, tzinfo=UTC)
OLD, NEW = "20261101T081500Z-3f2a", "20261120T081500Z-0a1b"
POLICY = Policy(retrain=True, min_rows=300, cool_down=timedelta(hours=168))
DRIFTED = Facts(
    moment=NOW,
    alarms=["language", "embedding"],
    rows=500,
    feedback_alarm=None,
    training_in_progress=False,
    last_training=NOW - timedelta(hours=169),
    trained_on=OLD,
    newest_dataset=NEW,
)
WORSE = replace(DRIFTED, alarms=[], rows=0, feedback_alarm="on 80 predictions with feedback the accuracy is 50.0%.")


def test_drift_with_rows_enough_and_something_new_to_learn_from_causes_a_training() -> None:
    decision = decide(DRIFTED, POLICY)
    assert decision.retrain
    assert decision.reason == (
        f"A training on {NEW} is queued: drift in language, embedding (500 predictions); "
        f"the champion was trained on {OLD}."
    )


def test_real_products_that_are_older_than_the_demo_champion_are_something_new_to_learn_from() -> None:
    decision = decide(replace(DRIFTED, trained_on=NEW, newest_dataset=OLD), POLICY)
    assert decision.retrain


def test_feedback_causes_one_by_itself_whatever_the_rows() -> None:
    decision = decide(WORSE, POLICY)
    assert decision.retrain
    assert "feedback: on 80 predictions" in decision.reason


@pytest.mark.parametrize(
    ("facts", "policy", "words"),
    [
        (replace(DRIFTED, alarms=[]), POLICY, "there is no alarm"),
        (replace(DRIFTED, rows=299), POLICY, "299 predictions were compared; a training needs 300"),
        (DRIFTED, replace(POLICY, columns={"confidence"}), "does not name language, embedding"),
        (DRIFTED, replace(POLICY, retrain=False), "DRIFT_RETRAIN is off. Reasons to train: drift in language"),
        (replace(DRIFTED, training_in_progress=True), POLICY, "a training is already queued or running"),
        (
            replace(DRIFTED, last_training=NOW - timedelta(hours=167)),
            POLICY,
            "drift queues none until 2026-11-21 13:00 (",
        ),
        (replace(WORSE, last_training=NOW), POLICY, "the last successful training ended at 2026-11-21 12:00 UTC"),
        (replace(DRIFTED, newest_dataset=OLD), POLICY, "the newest dataset is the one the champion was trained on"),
        (
            replace(DRIFTED, newest_dataset=None),
            POLICY,
            "ingest labelled products similar to those that are predicted now",
        ),
        (
            replace(WORSE, newest_dataset=OLD),
            POLICY,
            "ingest labelled products similar to those that are predicted now",
        ),
        (
            replace(DRIFTED, trained_already="20261120T091500Z-aaaa"),
            POLICY,
            "20261120T091500Z-aaaa was already trained on",
        ),
    ],
)
def test_what_is_missing_is_named_in_a_sentence(facts: Facts, policy: Policy, words: str) -> None:
    decision = decide(facts, policy)
    assert not decision.retrain
    assert decision.job_id is None
    assert decision.reason.startswith("No retraining: ") and decision.reason.endswith(".")
    assert words in decision.reason


@pytest.mark.parametrize(
    ("facts", "policy"),
    [
        (replace(DRIFTED, rows=300), POLICY),
        (replace(DRIFTED, last_training=NOW - timedelta(hours=168)), POLICY),
        (replace(DRIFTED, last_training=None), POLICY),
        (DRIFTED, replace(POLICY, columns={"language", "category"})),
        (replace(DRIFTED, last_training=NOW), replace(POLICY, cool_down=timedelta())),
    ],
)
def test_limits_themselves_are_enough(facts: Facts, policy: Policy) -> None:
    assert decide(facts, policy).retrain


def test_the_settings_are_the_policy() -> None:
    settings = DriftSettings(_env_file=None, drift_retrain_columns=" language, category ,", drift_cool_down_h=2)
    assert Policy.of(settings) == Policy(True, 300, timedelta(hours=2), frozenset({"language", "category"}))
    assert Policy.of(DriftSettings(_env_file=None)).columns is None
    with pytest.raises(InvalidSetting, match=r"names colour, but the columns are has_title, .*, embedding"):
        DriftSettings(_env_file=None, drift_retrain_columns="language,colour")
