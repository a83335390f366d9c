from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, ClassVar, Self

import numpy as np
import pytest

from rayonnage_shared.ml.base.model import Family, Fitted, Fitting, Labels, Span
from rayonnage_shared.ml.base.parameters import Choice
from rayonnage_shared.ml.base.progress import silent
from rayonnage_shared.ml.training import search as search_module
from rayonnage_shared.ml.training.search import Budget, Goal, NothingToSearch, SearchResult, search
from tests.clock import Clock

CLASSES = np.arange(200) % 4
LABELS = Labels(CLASSES, np.arange(200) % 5, 4)


class Peaked(Family):
    """Right on a share of the rows that is largest at width 3 and `kind` b."""

    name = "peaked"
    parameters: ClassVar[Mapping[str, float | int | str | bool]] = {"width": 0.5, "kind": "a", "depth": 1}
    search_space: ClassVar[Mapping[str, Span | Choice]] = {
        "width": Span(0.1, 10, logarithmic=True),
        "kind": Choice(("a", "b")),
        "depth": Span(1, 3, whole=True),
    }

    def save(self, folder: Path) -> None:
        raise NotImplementedError

    @classmethod
    def load(cls, folder: Path) -> Self:
        raise NotImplementedError


class Fits:
    """Counts the fits and remembers what they were asked for."""

    def __init__(self, *, clock: Clock | None = None, seconds: float = 0.0, die_at: int | None = None) -> None:
        self.asked: list[Fitting] = []
        self._clock, self._seconds, self._die_at = clock or Clock(), seconds, die_at

    def __call__(self, fitting: Fitting) -> Fitted[Any]:
        self.asked.append(fitting)
        if len(self.asked) == self._die_at:
            raise KeyboardInterrupt
        self._clock.sleep(self._seconds)
        fitting.progress(0.5, "half way")
        width, kind = float(fitting.parameters["width"]), fitting.parameters["kind"]
        share = np.exp(-abs(np.log(width / 3))) * (1.0 if kind == "b" else 0.6)
        said = np.where(np.arange(200) < 200 * share, CLASSES, (CLASSES + 1) % 4)
        table = np.full((200, 4), 0.1, dtype=np.float32)
        table[np.arange(200), said] = 0.7
        table[:3] = np.nan
        return Fitted(Peaked(), table)


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    made = Clock()
    monkeypatch.setattr(search_module, "time", made)
    return made


def run(
    folder: Path, fits: Fits, trials: int = 12, seconds: float = 60.0, goal: Goal = "f1_macro", **fixed: Any
) -> SearchResult:
    return search(
        Peaked,
        fits,
        LABELS,
        goal=goal,
        budget=Budget(trials, seconds),
        fixed=fixed,
        seed=0,
        folder=folder,
        progress=silent,
    )


@pytest.mark.parametrize("goal", ["f1_macro", "f1_weighted", "log_loss"])
def test_better_parameters_than_the_defaults_are_found(tmp_path: Path, goal: Goal) -> None:
    found = run(tmp_path, Fits(), trials=20, goal=goal)

    assert found.default.parameters == {"width": 0.5, "kind": "a", "depth": 1}
    assert found.best.value is not None
    assert found.default.value is not None
    assert found.best.value > found.default.value
    assert found.best.parameters["kind"] == "b"
    assert len(found.trials) == 20


def test_fixed_parameters_keep_their_values(tmp_path: Path) -> None:
    fits = Fits()

    run(tmp_path, fits, kind="a")

    assert {fitting.parameters["kind"] for fitting in fits.asked} == {"a"}


def test_all_parameters_fixed_is_nothing_to_search(tmp_path: Path) -> None:
    with pytest.raises(NothingToSearch, match="peaked"):
        run(tmp_path, Fits(), kind="a", width=1.0, depth=2)


def test_no_trial_starts_after_the_time_is_over_and_the_defaults_are_always_evaluated(
    tmp_path: Path, clock: Clock
) -> None:
    fits = Fits(clock=clock, seconds=2)

    found = run(tmp_path, fits, trials=50, seconds=1)

    assert len(fits.asked) == 1
    assert found.best == found.default


def test_a_trial_is_cut_off_when_the_time_is_over(tmp_path: Path, clock: Clock) -> None:
    fits = Fits(clock=clock, seconds=2)

    found = run(tmp_path, fits, trials=50, seconds=3)

    assert [trial.value is None for trial in found.trials] == [False, True]
    assert found.best == found.default


def test_an_interrupted_search_goes_on_where_it_was(tmp_path: Path) -> None:
    with pytest.raises(KeyboardInterrupt):
        run(tmp_path, Fits(die_at=5))
    rest = Fits()

    found = run(tmp_path, rest)

    assert len(rest.asked) == 8
    assert len(found.trials) == 12


def test_a_finished_search_is_only_read(tmp_path: Path) -> None:
    first = run(tmp_path, Fits())
    again = Fits()

    assert run(tmp_path, again) == first
    assert again.asked == []
