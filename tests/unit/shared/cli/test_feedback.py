"""`rayonnage feedback`, and what `rayonnage ingest --from-feedback` and `rayonnage lineage` make of it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import typer
from pydantic import ValidationError
from typer.testing import CliRunner
from ulid import ULID

from rayonnage_shared.cli import data, lineage
from rayonnage_shared.core.errors import RayonnageError
from rayonnage_shared.predictions.log import PredictionLog
from tests.unit.shared.ml.bundles.manifests import write_bundle
from tests.unit.shared.ml.catalogue.catalogues import many_rows, write_csv
from tests.unit.shared.predictions.records import VERSION, note, product


@pytest.fixture
def prediction_id(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A prediction of 2583 in a log, by a model of real products."""
    for name, value in {
        "DATABASE_URL": f"sqlite:///{tmp_path}/rayonnage.db",
        "MODELS_PATH": f"{tmp_path}/models",
    }.items():
        monkeypatch.setenv(name, value)
    for name in ("MLFLOW_TRACKING_URI", "DVC_REMOTE_URL"):
        monkeypatch.setenv(name, "")
    monkeypatch.setenv("DATA_PATH", f"{tmp_path}/data")
    monkeypatch.chdir(tmp_path)
    write_bundle(tmp_path / "models", VERSION)
    log = PredictionLog(f"sqlite:///{tmp_path}/rayonnage.db", max_waiting=10, keep_days=1, flush_every_s=0.01)
    log.start()
    noted = note(log, product("Robot de cuisine"))
    log.stop()
    return noted


def run(*arguments: str, exit_code: int = 0) -> str:
    app = typer.Typer()
    data.register(app)
    lineage.register(app)
    result = CliRunner().invoke(app, list(arguments), catch_exceptions=False)
    assert result.exit_code == exit_code, result.output
    return result.output


def ingested(*arguments: str) -> dict[str, object]:
    printed = run("ingest", *arguments)
    report: dict[str, object] = json.loads(printed[printed.index("{") : printed.rindex("}") + 1])
    return report


def test_what_the_operator_says_is_written_shown_and_learned(prediction_id: str, tmp_path: Path) -> None:
    said = json.loads(run("feedback", prediction_id.lower(), "1160"))
    assert (said["prediction_id"], said["category_id"], said["correct"]) == (prediction_id, 1160, False)
    assert "feedback: 1160, by" in run("lineage", prediction_id)
    assert "in no dataset yet" in run("lineage", prediction_id)
    ingested(str(write_csv(tmp_path / "features.csv", many_rows(3))))

    report = ingested("--from-feedback")

    assert (report["rows_added"], report["feedback_skipped"]) == (1, 0)
    assert f"in dataset {report['dataset_version']}" in run("lineage", prediction_id)
    assert ingested("--from-feedback")["rows_total"] == 0


def test_a_prediction_that_nobody_knows_is_refused_in_one_sentence(prediction_id: str) -> None:
    with pytest.raises(RayonnageError, match="PREDICTION_LOG_DAYS"):
        run("feedback", str(ULID()), "1160")
    with pytest.raises(RayonnageError, match="product type codes"):
        run("feedback", prediction_id, "1")
    with pytest.raises(ValidationError, match="prediction_id"):
        run("feedback", "nonsense", "1160")


@pytest.mark.parametrize("arguments", [[], ["--from-feedback", "features.csv"], ["--from-feedback", "--demo"]])
def test_products_come_from_a_file_or_from_feedback(prediction_id: str, arguments: list[str]) -> None:
    Path("features.csv").write_text("designation,prdtypecode\n")
    run("ingest", *arguments, exit_code=2)
