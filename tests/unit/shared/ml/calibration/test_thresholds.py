from __future__ import annotations

from pathlib import Path

import numpy as np

from rayonnage_shared.ml.calibration.thresholds import CONFIDENCE, NEVER, Decisions, Mode, rows_by_mode


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


def test_a_class_of_few_rows_leans_on_calibrated_confidence() -> None:
    common, few = three_classes(0, 0.97, 400), three_classes(1, 0.97, 2)

    decisions = Decisions.fit({"text": np.concatenate([common, few])}, np.repeat([0, 1], [400, 2]), 0.95)

    assert decisions.accepts("text", 1, 0.971)


def test_a_class_with_rows_of_its_own_is_judged_by_them() -> None:
    common, overrated = three_classes(0, 0.97, 400), three_classes(1, 0.97, 60)
    truth = np.concatenate([np.zeros(400, dtype=np.int64), np.where(np.arange(60) % 5 == 0, 2, 1)])

    decisions = Decisions.fit({"text": np.concatenate([common, overrated])}, truth, 0.95)

    assert decisions.accepts("text", 0, 0.971)
    assert not decisions.accepts("text", 1, 0.971)


def test_a_class_that_no_held_out_row_speaks_for_must_be_as_sure_as_the_promise() -> None:
    decisions = Decisions.fit({"text": three_classes(0, 0.99, 400)}, np.zeros(400, dtype=np.int64), 0.95)

    assert decisions.accepts("text", 2, 0.96)
    assert not decisions.accepts("text", 2, 0.94)


def test_few_rows_promise_nothing_even_when_all_are_right() -> None:
    few, enough = np.zeros(20, dtype=np.int64), np.zeros(60, dtype=np.int64)

    assert not Decisions.fit({"text": three_classes(0, 0.99, 20)}, few, 0.95).accepts("text", 0, 0.991)
    assert Decisions.fit({"text": three_classes(0, 0.99, 60)}, enough, 0.95).accepts("text", 0, 0.991)


def test_the_promise_is_kept_on_rows_that_no_threshold_was_found_on() -> None:
    reached = []
    for seed in range(20):
        table, classes = noisy_classes(seed, 1500)
        fresh_table, fresh_classes = noisy_classes(seed + 1000, 20_000)
        accepted = Decisions.fit({"text": table}, classes, 0.9).accepted("text", fresh_table)
        if accepted.any():
            reached.append(float((fresh_table.argmax(axis=1) == fresh_classes)[accepted].mean()))

    assert len(reached) > 10
    assert np.mean(reached) >= 0.9
    assert min(reached) >= 0.87


def test_nine_of_ten_trainings_keep_the_promise_on_new_products() -> None:
    unseen, chances = new_products(seed=1000, n=50_000)
    reached = []
    for seed in range(60):
        table, classes = noisy_classes(seed, 1500)
        accepted = Decisions.fit({"text": table}, classes, 0.9).accepted("text", unseen)
        if accepted.any():
            reached.append(float(chances[accepted].mean()))

    assert len(reached) > 50
    assert np.mean(np.array(reached) >= 0.9) >= CONFIDENCE
    assert np.mean(reached) >= 0.9


def test_a_promise_that_the_rows_cannot_prove_accepts_nothing() -> None:
    # 0.99 ** 229 is above 1 - CONFIDENCE, 0.99 ** 230 is not.
    few, enough = (
        Decisions.fit({"text": three_classes(0, 0.999, n)}, np.zeros(n, dtype=np.int64), 0.99) for n in (229, 230)
    )

    assert not few.accepts("text", 0, 1.0)
    assert enough.accepts("text", 0, 0.9991)


def test_unsure_products_are_refused_first_even_in_a_class_that_keeps_the_promise() -> None:
    sure, unsure = three_classes(0, 0.99, 500), three_classes(0, 0.6, 60)
    truth = np.concatenate([np.zeros(500, dtype=np.int64), np.arange(60) % 2])

    decisions = Decisions.fit({"text": np.concatenate([sure, unsure])}, truth, 0.95)

    assert 0.6 < float(decisions.thresholds["text"][0]) < 0.99


def test_text_alone_keeps_the_promise_where_products_with_a_photo_are_easier() -> None:
    unseen, chances = new_products(seed=1000, n=50_000)
    all_rows: list[float] = []
    own_rows: list[float] = []
    for seed in range(10):
        hard, hard_classes = noisy_classes(seed, 3000)
        easy, _ = noisy_classes(seed + 100, 3000)
        classes = np.concatenate([hard_classes, easy.argmax(axis=1)])  # with a photo, every prediction is right
        tables = tables_by_mode(np.concatenate([hard, easy]), with_photo=np.arange(6000) >= 3000)
        text_only: dict[Mode, np.ndarray] = {"text": tables["text"]}
        for rows, reached in ((text_only, all_rows), (tables, own_rows)):
            accepted = Decisions.fit(rows, classes, 0.9).accepted("text", unseen)
            reached.append(float(chances[accepted].mean()))

    assert max(all_rows) < 0.9 <= np.mean(own_rows)


def test_a_mode_with_few_rows_of_its_own_uses_all() -> None:
    table, _ = noisy_classes(0, 2000)

    few, enough = (
        rows_by_mode(tables_by_mode(table, with_photo=np.arange(2000) >= n_own))["text"] for n_own in (999, 1000)
    )

    assert not np.isnan(few).any()
    assert np.isnan(enough).any(axis=1).sum() == 1000
    np.testing.assert_array_equal(enough[:1000], table[:1000])


def tables_by_mode(text: np.ndarray, with_photo: np.ndarray) -> dict[Mode, np.ndarray]:
    """Held-out probabilities of products that all have a text; fusion and photo say what the text says."""
    photo = np.where(with_photo[:, None], text, np.float32(np.nan))
    return {"text": text, "image": photo, "both": photo}


def three_classes(position: int, confidence: float, n: int) -> np.ndarray:
    table = np.full((n, 3), (1 - confidence) / 2, dtype=np.float32)
    table[:, position] = confidence
    return table


def noisy_classes(seed: int, n: int) -> tuple[np.ndarray, np.ndarray]:
    """Rows of ten classes; confidence overrates some classes and underrates others, by up to eight points."""
    random = np.random.default_rng(seed)
    table, chances = _predictions(random, n)
    predicted = table.argmax(axis=1)
    return table, np.where(random.uniform(size=n) < chances, predicted, (predicted + 1) % 10)


def new_products(seed: int, n: int) -> tuple[np.ndarray, np.ndarray]:
    """Rows like those of `noisy_classes`, and for each the chance that its prediction is right."""
    return _predictions(np.random.default_rng(seed), n)


def _predictions(random: np.random.Generator, n: int) -> tuple[np.ndarray, np.ndarray]:
    predicted = random.integers(10, size=n)
    confidence = random.uniform(0.5, 0.999, n)
    table = np.repeat(((1 - confidence) / 9)[:, None], 10, axis=1).astype(np.float32)
    table[np.arange(n), predicted] = confidence
    return table, np.clip(confidence + np.linspace(-0.08, 0.08, 10)[predicted], 0, 1)
