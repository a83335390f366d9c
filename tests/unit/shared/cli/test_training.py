"""`rayonnage train`: what is asked for on the command line is what is trained."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from rayonnage_shared.cli.main import create_app
from rayonnage_shared.core.errors import BadInput, RayonnageError
from rayonnage_shared.ml.base.model import FamilyNotTrainable
from rayonnage_shared.ml.base.parameters import UnknownParameter
from rayonnage_shared.ml.training.requests import TrainRequest
from rayonnage_shared.pipelines import training as pipeline
from rayonnage_shared.pipelines.run_context import RunContext
from rayonnage_shared.pipelines.settings import PipelineSettings
from tests.unit.shared.ml.catalogue.manifests import write_dataset
from tests.unit.shared.ml.training.refusals import REFUSALS, Refusal, without_training_libraries


@pytest.fixture
def volumes(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """An empty platform with a dataset version."""
    write_dataset(tmp_path / "data")
    monkeypatch.setenv("MODELS_PATH", str(tmp_path / "models"))
    monkeypatch.setenv("DATA_PATH", str(tmp_path / "data"))
    monkeypatch.setenv("DATABASE_URL", f"sqlite:///{tmp_path}/rayonnage.db")
    return tmp_path


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch, volumes: Path) -> list[TrainRequest]:
    """What came to the training, which does nothing here."""
    requests: list[TrainRequest] = []

    def train(request: TrainRequest, _run: object) -> dict[str, Any]:
        requests.append(request)
        return {"version": "none"}

    monkeypatch.setattr(pipeline, "train", train)
    return requests


def test_a_fusion_is_named_with_its_parameters(asked: list[TrainRequest]) -> None:
    arguments = ["train", "--image", "none", "--fusion", "concatenate", "--parameter", "fusion.penalty=0.1"]

    found = CliRunner().invoke(create_app(("models",)), arguments)

    assert found.exit_code == 0, found.output
    (request,) = asked
    assert (request.fusion, request.image, request.parameters) == ("concatenate", None, {"fusion.penalty": 0.1})


@pytest.mark.parametrize("refusal", REFUSALS, ids=lambda refusal: refusal.code)
def test_a_refusal_says_what_http_says(volumes: Path, refusal: Refusal, monkeypatch: pytest.MonkeyPatch) -> None:
    without_training_libraries(monkeypatch)

    found = CliRunner().invoke(create_app(("models",)), ["train", *refusal.arguments])

    assert isinstance(found.exception, RayonnageError)
    assert (found.exception.code, found.exception.detail) == (refusal.code, refusal.detail)
    assert not list((volumes / "models").glob(".work/*"))


@pytest.mark.parametrize(
    ("arguments", "error", "words"),
    [
        (["--text", "tfidf-svm", "--fixed", "nope=1"], UnknownParameter, "`nope`"),
        (["--text", "tfidf-svm", "--fixed", "penalty=-1"], BadInput, "from 0.0001"),
        (["--image", "resnet50"], FamilyNotTrainable, "make keras"),
    ],
)
def test_a_search_is_refused_too(
    volumes: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str], error: type[BadInput], words: str
) -> None:
    without_training_libraries(monkeypatch)

    found = CliRunner().invoke(create_app(("models",)), ["search", *arguments])

    assert isinstance(found.exception, error)
    assert words in found.exception.detail


def test_without_a_name_the_champions_fusion_is_meant(asked: list[TrainRequest]) -> None:
    assert CliRunner().invoke(create_app(("models",)), ["train"]).exit_code == 0

    assert asked[0].fusion is None


def test_the_same_command_resumes_a_training_that_was_interrupted(
    volumes: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    works: list[Path] = []

    def train(_request: TrainRequest, run: RunContext[PipelineSettings]) -> dict[str, Any]:
        works.append(run.work)
        if (run.work / "text.done").exists():
            return {"version": "resumed"}
        (run.work / "text.done").touch()
        raise KeyboardInterrupt

    monkeypatch.setattr(pipeline, "train", train)
    assert CliRunner().invoke(create_app(("models",)), ["train"]).exit_code != 0

    found = CliRunner().invoke(create_app(("models",)), ["train"])

    assert found.exit_code == 0, found.output
    assert "resumed" in found.stdout
    assert "finished stages are not run again" in " ".join(found.stderr.split())
    assert works[0] == works[1]
    assert not works[0].exists()
