"""Search for better parameters of a family within a budget of trials and seconds; resumes after a crash."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np

from rayonnage_shared.core.errors import BadInput
from rayonnage_shared.ml.base.model import Family, Fitted, Fitting, FloatArray, Labels, Span, known_rows
from rayonnage_shared.ml.base.parameters import Choice, Parameter, Parameters
from rayonnage_shared.ml.base.progress import Progress
from rayonnage_shared.ml.metrics.classification import evaluate

Goal = Literal["f1_macro", "f1_weighted", "log_loss"]
FitOnce = Callable[[Fitting], Fitted[Any]]

_JOURNAL = "search.journal"
_LEAST_PROBABILITY = 1e-6


class NothingToSearch(BadInput):
    code, title = "nothing_to_search", "This family has no parameters to search"


@dataclass(frozen=True, slots=True)
class Budget:
    """When to stop: after this many trials, or this many seconds; a running trial is cut off."""

    trials: int
    seconds: float


@dataclass(frozen=True, slots=True)
class Trial:
    """One set of parameters and its score; `value` is None for a trial that was cut off."""

    parameters: Parameters
    value: float | None
    seconds: float


@dataclass(frozen=True, slots=True)
class SearchResult:
    """The result of a search. The first trial has the family's defaults, so `best` is never worse than these."""

    goal: Goal
    best: Trial
    default: Trial
    trials: tuple[Trial, ...]


def search(
    family: type[Family],
    fit: FitOnce,
    labels: Labels,
    *,
    goal: Goal,
    budget: Budget,
    fixed: Parameters,
    seed: int,
    folder: Path,
    progress: Progress,
) -> SearchResult:
    """Return the best parameters by held-out rows (Tree-structured Parzen Estimator, Bergstra et al. 2011).

    `fixed` parameters keep their values. Each trial writes its result to `folder`; a later call with the same folder
    resumes from there. Raises NothingToSearch, or what `fit` raises.
    """
    import optuna

    space = space_to_search(family, fixed)
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    storage = optuna.storages.JournalStorage(optuna.storages.journal.JournalFileBackend(str(folder / _JOURNAL)))
    study = optuna.create_study(study_name="search", storage=storage, direction="maximize", load_if_exists=True)
    _close_interrupted(study)
    while (spent := _finished(study))[0] < budget.trials and (spent[0] == 0 or spent[1] < budget.seconds):
        # Seeded by the number of trials, so that a resumed search continues as the interrupted one would have.
        study.sampler = optuna.samplers.TPESampler(seed=seed + len(study.trials))
        if spent[0] == 0:
            study.enqueue_trial({name: family.parameters[name] for name in space})
        trial = study.ask()
        parameters = {**fixed, **{name: _suggest(trial, name, what) for name, what in space.items()}}
        started = time.monotonic()
        deadline = started + budget.seconds - spent[1] if spent[0] else float("inf")
        told = _told(progress, deadline, spent[0], budget.trials)
        try:
            value = _score(fit(Fitting(parameters, seed, told)).held_out, labels, goal)
            trial.set_user_attr("seconds", time.monotonic() - started)
            study.tell(trial, value)
        except _OutOfTime:
            trial.set_user_attr("seconds", time.monotonic() - started)
            study.tell(trial, state=optuna.trial.TrialState.PRUNED)
    return _found(study, goal, fixed)


def space_to_search(family: type[Family], fixed: Parameters) -> dict[str, Span | Choice]:
    """Return where each parameter that is not fixed may be searched. Raises NothingToSearch if there is none."""
    space = {name: what for name, what in family.search_space.items() if name not in fixed}
    if not space:
        raise NothingToSearch(f"{family.name} has no parameters to search that are not fixed.")
    return space


class _OutOfTime(Exception):
    """The budget ran out within a trial."""


def _told(progress: Progress, deadline: float, done: int, trials: int) -> Progress:
    def report(fraction: float, message: str) -> None:
        progress((done + min(fraction, 1.0)) / trials, f"trial {done + 1} of {trials}: {message}")
        if time.monotonic() > deadline:
            raise _OutOfTime

    return report


def _suggest(trial: Any, name: str, what: Span | Choice) -> Parameter:
    if isinstance(what, Choice):
        chosen: Parameter = trial.suggest_categorical(name, list(what.values))
        return chosen
    if what.whole:
        return int(trial.suggest_int(name, int(what.low), int(what.high), log=what.logarithmic))
    return float(trial.suggest_float(name, what.low, what.high, log=what.logarithmic))


def _score(held_out: FloatArray, labels: Labels, goal: Goal) -> float:
    """Return the value to maximise, on the rows that have held-out probabilities."""
    known = known_rows(held_out)
    if not known.any():
        raise BadInput("The dataset has too few rows to hold any out, so trials cannot be compared.")
    probabilities, classes = held_out[known], labels.classes[known]
    if goal == "log_loss":
        right = probabilities[np.arange(len(classes)), classes]
        return float(np.log(np.maximum(right, _LEAST_PROBABILITY)).mean())
    return evaluate(probabilities, classes, tuple(range(labels.n_classes))).headline()[goal]


def _close_interrupted(study: Any) -> None:
    """Close the trials that an interrupted process left running."""
    import optuna

    for trial in study.get_trials(deepcopy=False, states=(optuna.trial.TrialState.RUNNING,)):
        study.tell(trial.number, state=optuna.trial.TrialState.FAIL)


def _finished(study: Any) -> tuple[int, float]:
    """Return how many trials have finished, and the seconds that they took."""
    import optuna

    ended = (optuna.trial.TrialState.COMPLETE, optuna.trial.TrialState.PRUNED)
    seconds = [trial.user_attrs.get("seconds", 0.0) for trial in study.get_trials(deepcopy=False, states=ended)]
    return len(seconds), sum(seconds)


def _found(study: Any, goal: Goal, fixed: Parameters) -> SearchResult:
    import optuna

    trials = []
    for one in study.get_trials(deepcopy=False):
        if one.state in (optuna.trial.TrialState.COMPLETE, optuna.trial.TrialState.PRUNED):
            trials.append(Trial({**fixed, **one.params}, one.value, float(one.user_attrs["seconds"])))
    scored = [trial for trial in trials if trial.value is not None]
    best = max(scored, key=lambda trial: trial.value if trial.value is not None else float("-inf"))
    return SearchResult(goal, best, scored[0], tuple(trials))
