"""`make full-run`, for real: a training, predictions, a drift report with Evidently, and the dashboard."""

from __future__ import annotations

import csv
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.e2e.local_run import bootstrap
from tests.e2e.platform import environment_without_settings

ROOT = Path(__file__).parents[2]
TRAINED_WITHIN_S = 500

pytestmark = pytest.mark.system  # `make install-monitor` brings Evidently


def test_full_run_trains_predicts_monitors_and_shows_the_state(
    trained_volume: Path, sample: Path, tmp_path: Path
) -> None:
    shutil.copytree(trained_volume, tmp_path, dirs_exist_ok=True)
    (tmp_path / "Makefile").symlink_to(ROOT / "Makefile")
    (tmp_path / "data" / "sample").symlink_to(sample)
    before = {path.name for path in (tmp_path / "models").glob("2*")}

    done = subprocess.run(
        [
            *("make", "full-run", f"BOOTSTRAP={bootstrap(tmp_path)}"),
            "ARGS=--text tfidf-svm --image none --promote never",
        ],
        check=False,
        cwd=tmp_path,
        env=environment_without_settings() | {"MLFLOW_TRACKING_URI": "", "DVC_REMOTE_URL": "", "COLUMNS": "120"},
        capture_output=True,
        text=True,
        timeout=TRAINED_WITHIN_S,
    )

    assert done.returncode == 0, done.stdout + done.stderr
    (trained,) = {path.name for path in (tmp_path / "models").glob("2*")} - before
    assert trained in done.stdout
    with (sample / "features.csv").open(newline="") as products:
        rows = sum(1 for _ in csv.DictReader(products))
    with (tmp_path / "data" / "predictions" / "products.csv").open(newline="") as predictions:
        assert sum(bool(row["prdtypecode"]) for row in csv.DictReader(predictions)) > rows * 0.95
    (report,) = (tmp_path / "data" / "drift").glob("2*")
    assert (report / "drift_report.html").is_file() and (report / "drift_report.json").is_file()
    assert str(report.name) in done.stdout
    assert "champion" in done.stdout
