from __future__ import annotations

import numpy as np

from rayonnage_shared.ml.evaluation.gate import compare

CODES = (10, 20, 30)


def rows(n: int = 600) -> np.ndarray:
    return np.arange(n, dtype=np.int64) % 3


def with_errors(truth: np.ndarray, share: float, seed: int) -> np.ndarray:
    random = np.random.default_rng(seed)
    wrong = random.uniform(size=len(truth)) < share
    return np.where(wrong, (truth + 1) % 3, truth)


def test_a_clearly_better_challenger_is_promoted() -> None:
    truth = rows()

    verdict = compare(truth, with_errors(truth, 0.05, 1), with_errors(truth, 0.3, 2), CODES, class_margin=0.05)

    assert verdict.promote
    assert verdict.lower_bound > 0.15


def test_an_equal_challenger_stays_a_candidate() -> None:
    truth = rows()
    champion = with_errors(truth, 0.2, 1)

    verdict = compare(truth, champion.copy(), champion, CODES, class_margin=0.05)

    assert not verdict.promote
    assert "not significantly better" in verdict.reason


def test_noise_alone_is_seldom_promoted() -> None:
    truth = rows(300)

    promoted = sum(
        compare(
            truth, with_errors(truth, 0.2, 2 * i), with_errors(truth, 0.2, 2 * i + 1), CODES, class_margin=1
        ).promote
        for i in range(20)
    )

    assert promoted <= 3


def test_a_class_that_falls_too_far_stops_the_promotion() -> None:
    truth = rows()
    champion = with_errors(truth, 0.3, 1)
    champion[truth == 2] = 2
    champion[truth != 2] = np.where(champion[truth != 2] == 2, 0, champion[truth != 2])
    challenger = truth.copy()
    challenger[(truth == 2) & (np.arange(600) % 4 == 0)] = 0

    verdict = compare(truth, challenger, champion, CODES, class_margin=0.05)

    assert not verdict.promote
    assert "F1 of 30 falls" in verdict.reason


def test_too_few_rows_are_not_compared() -> None:
    truth = rows(20)

    verdict = compare(truth, truth, with_errors(truth, 0.9, 1), CODES, class_margin=0.05)

    assert not verdict.promote
    assert "only 20 rows" in verdict.reason
