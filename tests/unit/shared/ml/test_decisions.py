from __future__ import annotations

from pathlib import Path

import numpy as np

from rayonnage_shared.ml.decisions import NEVER, Decisions


def two_classes(confidence: np.ndarray) -> np.ndarray:
    return np.column_stack([confidence, 1 - confidence]).astype(np.float32)


def test_the_threshold_keeps_the_promise_on_the_rows_it_was_found_on() -> None:
    random = np.random.default_rng(0)
    confidence = random.uniform(0.5, 1.0, 2000)
    classes = (random.uniform(size=2000) > confidence).astype(np.int64)
    table = two_classes(confidence)

    decisions = Decisions.fit({"text": table}, classes, 0.9)

    accepted = [decisions.accepts("text", 0, float(one)) for one in confidence]
    assert (classes[accepted] == 0).mean() >= 0.9
    assert 0.3 < np.mean(accepted) < 0.6


def test_a_class_that_is_never_right_is_never_accepted() -> None:
    confidence = np.linspace(0.6, 0.99, 100)

    decisions = Decisions.fit({"text": two_classes(confidence)}, np.ones(100, dtype=np.int64), 0.95)

    assert not decisions.accepts("text", 0, 1.0)


def test_a_mode_without_held_out_rows_is_never_accepted() -> None:
    table = np.full((10, 2), np.nan, dtype=np.float32)

    decisions = Decisions.fit({"image": table}, np.zeros(10, dtype=np.int64), 0.95)

    assert (decisions.thresholds["image"] == NEVER).all()
    assert not decisions.accepts("both", 0, 1.0)


def test_decisions_are_the_same_after_saving(tmp_path: Path) -> None:
    table = two_classes(np.linspace(0.5, 1.0, 200))
    decisions = Decisions.fit({"text": table}, np.zeros(200, dtype=np.int64), 0.95)

    decisions.save(tmp_path / "decisions.json")
    loaded = Decisions.load(tmp_path / "decisions.json")

    assert loaded.promised_precision == 0.95
    np.testing.assert_allclose(loaded.thresholds["text"], decisions.thresholds["text"], atol=1e-6)
