"""`rayonnage lineage` prints what `shared/ops/lineage.py` finds."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from rayonnage_shared.cli import lineage
from rayonnage_shared.core.errors import RayonnageError
from rayonnage_shared.database.engine import migrate, open_database
from rayonnage_shared.predictions.log import PredictionLog
from tests.unit.shared.predictions.records import PHOTO, VERSION, note, product

TITLE = "[red]Piscine[/red]\x1b[31m ronde"


@pytest.fixture
def prediction_id(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A prediction in a log, by a bundle that is gone."""
    url = f"sqlite:///{tmp_path}/rayonnage.db"
    monkeypatch.setenv("DATABASE_URL", url)
    monkeypatch.setenv("MODELS_PATH", str(tmp_path / "models"))
    monkeypatch.setenv("DATA_PATH", str(tmp_path / "data"))
    engine = open_database(url)
    migrate(engine)
    engine.dispose()
    log = PredictionLog(url, max_waiting=10, keep_days=1, flush_every_s=0.01)
    log.start()
    noted = note(log, product(TITLE, "x" * 500), PHOTO)
    log.stop()
    return noted


def run(*arguments: str) -> str:
    app = typer.Typer()
    lineage.register(app)
    result = CliRunner().invoke(app, list(arguments), catch_exceptions=False)
    assert result.exit_code == 0
    return result.output


def test_the_tree_says_what_was_answered_and_what_is_gone(prediction_id: str) -> None:
    lines = run(prediction_id).splitlines()
    assert lines[0] == f"prediction {prediction_id}"
    assert any("predicted 2583 (97.0%, accept) in 11.8 ms; text alone 2582 (50.0%)" in line for line in lines)
    assert any(f"model {VERSION} – no longer on this volume" in line for line in lines)
    assert any("not logged yet" in line for line in lines)


def test_what_a_caller_sent_cannot_colour_or_flood_the_terminal(prediction_id: str) -> None:
    output = run(prediction_id)
    assert "[red]Piscine[/red] [31m ronde" in output
    assert "\x1b" not in output
    assert max(map(len, (line.rstrip() for line in output.splitlines()))) < 200


def test_the_same_comes_as_json(prediction_id: str) -> None:
    document = json.loads(run(prediction_id, "--json"))
    assert document["answer"]["designation"] == TITLE
    assert document["answer"]["text"] == {"category_id": 2582, "probability": 0.5}
    assert document["model"]["version"] == VERSION
    assert document["model"]["provenance"] is None


def test_an_unknown_name_is_refused_in_one_sentence(prediction_id: str) -> None:
    with pytest.raises(RayonnageError, match="is not a prediction id"):
        run("nonsense")
