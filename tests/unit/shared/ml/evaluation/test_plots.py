from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from rayonnage_shared.ml.base.categories import load_categories
from rayonnage_shared.ml.calibration.thresholds import Decisions
from rayonnage_shared.ml.evaluation.plots import draw_plots
from rayonnage_shared.ml.evaluation.report import evaluation_report, tables_by_mode
from rayonnage_shared.ml.evaluation.schemas import LearningCurve
from rayonnage_shared.ml.evaluation.scoring import Scores
from tests.unit.shared.ml.evaluation.reports import some_report

MAX_BYTES = 150_000
CURVES = [
    LearningCurve(modality="text", figure="f1_weighted", axis="rows", x=[2, 4], train=[1, 0.9], held_out=[0.5, 0.6]),
    LearningCurve(modality="image", figure="loss", axis="epochs", x=[1, 2], train=[2, 1], held_out=[2, None]),
    LearningCurve(modality="image", figure="accuracy", axis="epochs", x=[1, 2], train=[0.2, 1], held_out=[0.1, 0.4]),
]


@pytest.fixture(scope="module")
def drawn(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, bytes]]:
    """The plots of a small report, drawn twice."""
    report, scores, truth = some_report()
    report.curves = CURVES
    found = []
    for name in ("once", "twice"):
        folder = tmp_path_factory.mktemp(name)
        draw_plots(report, tables_by_mode(scores), truth, folder)
        found.append({path.name: path.read_bytes() for path in (folder / "figures").iterdir()})
    return found


def test_every_part_of_the_report_has_its_picture(drawn: list[dict[str, bytes]]) -> None:
    assert sorted(drawn[0]) == [
        "calibration.png",
        "classes.png",
        "confusion.png",
        "learning_image.png",
        "learning_text.png",
        "selective.png",
    ]
    assert all(content.startswith(b"\x89PNG\r\n\x1a\n") for content in drawn[0].values())


def test_the_same_report_gives_the_same_bytes(drawn: list[dict[str, bytes]]) -> None:
    assert drawn[0] == drawn[1]


def test_plots_of_a_whole_catalogue_stay_small_and_show_something(tmp_path: Path) -> None:
    random = np.random.default_rng(0)
    labels = load_categories(None).labels
    codes = tuple(sorted(labels))
    truth = random.integers(0, len(codes), 5_000)
    table = random.dirichlet(np.full(len(codes), 0.05), len(truth)).astype(np.float32)
    table[np.arange(len(truth)), truth] += 0.5
    scores = Scores(table, table, table, table.max(axis=1) > 0.5)
    promises = [Decisions(0.95, {mode: np.full(len(codes), 0.9, np.float32) for mode in ("text", "image", "both")})]
    report = evaluation_report(scores, truth, codes, labels, dataset_version="x", promises=promises)

    draw_plots(report, tables_by_mode(scores), truth, tmp_path)

    for path in (tmp_path / "figures").iterdir():
        assert path.stat().st_size < MAX_BYTES, path.name
        with Image.open(path) as image:
            assert len(set(image.convert("L").resize((64, 64)).tobytes())) > 10, f"{path.name} is empty"


def test_products_of_one_modality_can_be_drawn(tmp_path: Path) -> None:
    report, scores, truth = some_report()
    missing = np.full_like(scores.image, np.nan)
    alone = Scores(scores.text, scores.text, missing, scores.accepted)

    draw_plots(report, tables_by_mode(alone), truth, tmp_path)

    assert (tmp_path / "figures" / "selective.png").stat().st_size > 1000
