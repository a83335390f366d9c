"""Decide whether a drift report is a reason to train."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime, timedelta

from rayonnage_shared.drift.schemas import DriftDecision
from rayonnage_shared.drift.settings import DriftSettings


@dataclass(frozen=True, slots=True)
class Policy:
    """When a drift report causes a training; `columns` are those whose alarm may cause one, None for all."""

    retrain: bool
    min_rows: int
    cool_down: timedelta
    columns: Collection[str] | None = None

    @classmethod
    def of(cls, settings: DriftSettings) -> Policy:
        """Return the policy that the settings describe."""
        named = frozenset(one.strip() for one in settings.drift_retrain_columns.split(",") if one.strip())
        return cls(
            retrain=settings.drift_retrain,
            min_rows=settings.drift_min_rows,
            cool_down=timedelta(hours=settings.drift_cool_down_h),
            columns=named or None,
        )


@dataclass(frozen=True, slots=True)
class Facts:
    """What the decision depends on: the report, the jobs, and the datasets."""

    moment: datetime
    alarms: Collection[str]
    """Columns that raise an alarm."""
    rows: int
    """Predictions that were compared."""
    feedback_alarm: str | None
    """The result of feedback in words, if it raises an alarm."""
    training_in_progress: bool
    """Whether a training is queued or running."""
    last_training: datetime | None
    """When the last successful training ended, whoever submitted it; failed and cancelled ones do not count."""
    trained_on: str
    """Dataset version of the champion."""
    newest_dataset: str | None
    trained_already: str | None = None
    """A version of the champion's families that was trained on the newest dataset and is not the champion."""


def decide(facts: Facts, policy: Policy) -> DriftDecision:
    """Return whether to train, and why or why not."""
    causes = _causes(facts, policy)
    if isinstance(causes, str):
        return DriftDecision(retrain=False, reason=f"No retraining: {causes}")
    reasons = ", and ".join(causes)
    objection = _objection(facts, policy)
    if objection is not None:
        return DriftDecision(retrain=False, reason=f"No retraining: {objection} Reasons to train: {reasons}.")
    queued = (
        f"A training on {facts.newest_dataset} is queued: {reasons}; the champion was trained on {facts.trained_on}."
    )
    return DriftDecision(retrain=True, reason=queued)


def _objection(facts: Facts, policy: Policy) -> str | None:
    """Return what prevents a training although there are causes, or None."""
    if not policy.retrain:
        return "DRIFT_RETRAIN is off."
    if facts.training_in_progress:
        return "a training is already queued or running."
    if facts.last_training is not None and facts.moment < facts.last_training + policy.cool_down:
        until = facts.last_training + policy.cool_down
        return (
            f"the last successful training ended at {facts.last_training:%Y-%m-%d %H:%M} UTC, and drift queues none "
            f"until {until:%Y-%m-%d %H:%M} (DRIFT_COOL_DOWN_H)."
        )
    ingest = "ingest labelled products similar to those that are predicted now."
    if facts.newest_dataset in (None, facts.trained_on):
        return f"the newest dataset is the one the champion was trained on; {ingest}"
    if facts.trained_already is not None:
        return f"{facts.trained_already} was already trained on the newest dataset; promote it, or {ingest}"
    return None


def _causes(facts: Facts, policy: Policy) -> list[str] | str:
    """Return the causes of a training in words, or why there is none."""
    counted = [name for name in facts.alarms if policy.columns is None or name in policy.columns]
    causes = []
    if counted and facts.rows >= policy.min_rows:
        causes.append(f"drift in {', '.join(counted)} ({facts.rows} predictions)")
    if facts.feedback_alarm is not None:
        causes.append(f"feedback: {facts.feedback_alarm.rstrip('.')}")
    if causes:
        return causes
    if counted:
        return f"{facts.rows} predictions were compared; a training needs {policy.min_rows} (DRIFT_MIN_ROWS)."
    if facts.alarms:
        return f"DRIFT_RETRAIN_COLUMNS does not name {', '.join(facts.alarms)}."
    return "there is no alarm."
