from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from rayonnage_shared.ml.base.model import Curve
from rayonnage_shared.ml.bundles.manifest import BundleBroken
from rayonnage_shared.ml.calibration.thresholds import Decisions
from rayonnage_shared.ml.evaluation.report import (
    disagreement,
    evaluation_report,
    flat_metrics,
    learning_curves,
    load_promises,
    read_report,
    save_promises,
    selective_on,
    tables_by_mode,
    with_costs_of,
    write_report,
)
from rayonnage_shared.ml.evaluation.schemas import Accuracies, EvaluationReport, LearningCurve, Timing
from tests.unit.shared.ml.evaluation.reports import CODES, LABELS, scores_of, some_report, sure_of


def test_text_photo_and_both_are_evaluated_where_they_differ_and_where_they_agree() -> None:
    truth = np.array([0, 0, 1, 2, 2, 0])
    text = [0, 1, 1, 2, 2, 0]
    image = [0, 0, None, 1, 1, 0]  # the third product has no photo
    both = [0, 0, 1, 2, 1, 1]

    found = disagreement(scores_of(text, image, both), truth)

    assert found is not None
    assert found.rows == 5
    assert found.share == pytest.approx(3 / 5)
    assert found.differing.rows == 3
    assert found.differing.text == pytest.approx(2 / 3)
    assert found.differing.image == pytest.approx(1 / 3)
    assert found.differing.both == pytest.approx(2 / 3)
    assert found.agreeing == Accuracies(rows=2, text=1.0, image=1.0, both=0.5)


def test_without_a_product_that_has_both_there_is_no_disagreement() -> None:
    assert disagreement(scores_of([0, 1], [None, None], [0, 1]), np.array([0, 1])) is None


def test_where_they_never_differ_accuracies_there_are_unknown() -> None:
    found = disagreement(scores_of([0], [0], [0]), np.array([0]))

    assert found is not None
    assert found.differing == Accuracies(rows=0, text=None, image=None, both=None)


def test_thresholds_of_other_rows_are_counted_on_the_test_split_by_mode() -> None:
    truth = np.array([0, 0, 1, 1])
    text = np.array([[0.9, 0.1, 0], [0.7, 0.3, 0], [0.8, 0.2, 0], [0.1, 0.9, 0]], dtype=np.float32)
    image = np.full_like(text, np.nan)
    image[0] = (0.6, 0.4, 0)
    lenient = Decisions(0.9, {"text": np.full(3, 0.75, np.float32), "image": np.full(3, 0.5, np.float32)})
    strict = Decisions(0.99, {"text": np.full(3, 0.85, np.float32), "image": np.full(3, 2, np.float32)})

    reports = selective_on([lenient, strict], {"text": text, "image": image}, truth)

    assert [(one.mode, one.promised, one.rows, one.coverage, one.precision) for one in reports] == [
        ("text", 0.9, 4, 0.75, pytest.approx(2 / 3)),
        ("text", 0.99, 4, 0.5, 1.0),
        ("image", 0.9, 1, 1.0, 1.0),
        ("image", 0.99, 1, 0.0, None),
    ]


def test_the_mode_of_both_has_the_rows_with_both_alone() -> None:
    tables = tables_by_mode(scores_of([0, 1, None], [0, None, 2], [0, 1, 2]))

    assert {mode: np.isfinite(table).all(axis=1).tolist() for mode, table in tables.items()} == {
        "text": [True, True, False],
        "image": [True, False, True],
        "both": [True, False, False],
    }


def test_the_report_holds_the_bundle_and_each_modality_alone() -> None:
    report, _, _ = some_report()

    assert (report.test.rows, report.test.accuracy) == (5, 0.8)
    assert report.test.accepted == pytest.approx(0.6)
    assert report.test.accepted_precision == pytest.approx(2 / 3)
    assert report.test.confusion == [[2, 0, 0], [0, 1, 0], [0, 1, 1]]
    assert [(one.code, one.label, one.rows) for one in report.test.classes] == [
        (10, "Livres > Livres d'occasion", 2),
        (40, "Jeux vidéo > Jeux pour consoles", 1),
        (2583, "Piscine > Entretien", 2),
    ]
    assert report.text is not None and report.image is not None
    assert (report.text.rows, report.text.accuracy) == (5, 0.8)
    assert (report.image.rows, report.image.accuracy) == (4, 0.5)


def test_a_model_that_is_missing_has_no_metrics() -> None:
    truth = np.array([0, 1])
    report = evaluation_report(scores_of([0, 1], [None, None], [0, 1]), truth, CODES, LABELS, dataset_version="x")

    assert report.image is None
    assert report.disagreement is None
    assert not any(name.startswith("image_") for name in flat_metrics(report))


def test_metrics_are_flat_numbers() -> None:
    report, _, _ = some_report()
    report.timing = [Timing(mode="text", products=3, median_ms=1.5, p95_ms=2.5)]
    report.train_seconds = {"text": 12.0, "image": None}

    metrics = flat_metrics(report)

    assert metrics["accuracy"] == 0.8
    assert metrics["text_rows"] == 5
    assert metrics["ms_text"] == 1.5
    assert metrics["train_seconds_text"] == 12.0
    assert metrics["disagreement"] == 0.75
    assert "train_seconds_image" not in metrics
    assert all(isinstance(value, int | float) for value in metrics.values())


def test_nothing_accepted_has_no_precision() -> None:
    scores = scores_of([0], [None], [0])
    scores.accepted[:] = False

    report = evaluation_report(scores, np.array([0]), CODES, LABELS, dataset_version="x")

    assert (report.test.accepted, report.test.accepted_precision) == (0.0, None)
    assert "accepted_precision" not in flat_metrics(report)


def test_what_is_written_is_read_again(tmp_path: Path) -> None:
    report, _, _ = some_report()

    write_report(tmp_path, report)

    assert read_report(tmp_path) == report


def test_a_bundle_from_before_there_were_reports_has_none(tmp_path: Path) -> None:
    assert read_report(tmp_path) is None
    (tmp_path / "evaluation.json").write_text(json.dumps({"rows": 5, "accuracy": 0.8, "classes": []}))

    assert read_report(tmp_path) is None
    assert load_promises(tmp_path) == []


@pytest.mark.parametrize("content", ["{", '{"test": {"rows": "many"}}'])
def test_a_damaged_report_is_called_so(tmp_path: Path, content: str) -> None:
    (tmp_path / "evaluation.json").write_text(content)

    with pytest.raises(BundleBroken, match="evaluation"):
        read_report(tmp_path)


def test_what_the_training_measured_is_taken_over_by_a_later_evaluation() -> None:
    fresh, _, _ = some_report()
    of_training = fresh.model_copy(
        update={
            "dataset_version": "older",
            "bundle_bytes": 77,
            "timing": [Timing(mode="text", products=3, median_ms=1.5, p95_ms=2.5)],
        }
    )

    whole: EvaluationReport = with_costs_of(fresh, of_training)

    assert (whole.dataset_version, whole.bundle_bytes) == (fresh.dataset_version, 77)
    assert whole.timing == of_training.timing


def test_a_metric_that_is_not_a_number_becomes_null_in_a_curve() -> None:
    curve = Curve("loss", "epochs", (1.0, 2.0), (0.5, float("nan")), (float("inf"), 0.25))

    assert learning_curves("text", [curve]) == [
        LearningCurve(modality="text", figure="loss", axis="epochs", x=[1, 2], train=[0.5, None], held_out=[None, 0.25])
    ]


def test_thresholds_of_each_promise_are_kept_in_the_bundle(tmp_path: Path) -> None:
    promises = [Decisions(promised, {"text": np.full(3, promised, np.float32)}) for promised in (0.9, 0.95)]

    save_promises(tmp_path, promises)

    kept = load_promises(tmp_path)
    assert [one.promised_precision for one in kept] == [0.9, 0.95]
    table = sure_of([0, 1], 0.92)
    assert [one.accepted("text", table).tolist() for one in kept] == [[True, True], [False, False]]
