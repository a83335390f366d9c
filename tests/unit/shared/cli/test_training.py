"""`rayonnage train`: what is asked for on the command line is what is trained."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from rayonnage_shared.cli.main import create_app
from rayonnage_shared.ml.training.requests import TrainRequest
from rayonnage_shared.pipelines import training as pipeline


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[TrainRequest]:
    """What came to the training, which does nothing here."""
    monkeypatch.setenv("MODELS_PATH", str(tmp_path / "models"))
    monkeypatch.setenv("DATA_PATH", str(tmp_path / "data"))
    monkeypatch.setenv("DATABASE_URL", f"sqlite:///{tmp_path}/rayonnage.db")
    requests: list[TrainRequest] = []

    def train(request: TrainRequest, **_: Any) -> dict[str, Any]:
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


def test_without_a_name_the_champions_fusion_is_meant(asked: list[TrainRequest]) -> None:
    assert CliRunner().invoke(create_app(("models",)), ["train"]).exit_code == 0

    assert asked[0].fusion is None
