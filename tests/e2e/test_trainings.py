"""Trainings over HTTP and on the command line: both refuse the same requests, at once and with the same words."""

from __future__ import annotations

import json
import subprocess
import sys
from importlib.util import find_spec
from typing import Any

import pytest

from tests.e2e.api import problem
from tests.e2e.platform import Platform, environment_without_settings
from tests.waiting import PATIENCE_S

RAYONNAGE = [sys.executable, "-m", "rayonnage_shared.cli.main"]

NEEDS_NO_TENSORFLOW = pytest.mark.skipif(find_spec("tensorflow") is not None, reason="TensorFlow is installed here")


@pytest.mark.parametrize(
    ("component", "family", "parameters", "refusal"),
    [
        ("text", "tfidf-svm", {"nope": 1}, ("unknown_parameter", "`nope`")),
        ("text", "tfidf-svm", {"penalty": -1}, ("invalid_input", "from 0.0001 to 10,000, not -1")),
        ("text", "tfidf-svm", {"penalty": "high"}, ("wrong_parameter", "'high'")),
        ("image", "efficientnet-lite0", {"penalty": 1e9}, ("invalid_input", "from 0.0001 to 10,000, not 1000000000.0")),
        ("text", "camembert", {}, ("family_not_trainable", "make camembert-env")),
        pytest.param("text", "lstm", {}, ("family_not_trainable", "make keras"), marks=NEEDS_NO_TENSORFLOW),
        pytest.param("image", "vgg16", {}, ("family_not_trainable", "make keras"), marks=NEEDS_NO_TENSORFLOW),
    ],
)
def test_a_training_and_a_search_that_cannot_work_are_refused_at_once(
    platform: Platform, component: str, family: str, parameters: dict[str, Any], refusal: tuple[str, str]
) -> None:
    code, words = refusal
    with platform.client(platform.admin_token()) as client:
        jobs = client.get("/train/jobs").json()
        training = client.post(f"/train/{component}", json={component: family, "parameters": parameters})
        detail = problem(training, 422, code)["detail"]
        search = client.post("/train/search", json={component: family, "fixed": parameters})
        assert problem(search, 422, code)["detail"] == detail
        assert client.get("/train/jobs").json() == jobs
    assert words in detail

    other = "image" if component == "text" else "text"
    values = [f"{name}={json.dumps(value)}" for name, value in parameters.items()]
    for command, option, more in (("train", "--parameter", [f"--{other}", "none"]), ("search", "--fixed", [])):
        options = [part for value in values for part in (option, value)]
        done = subprocess.run(
            [*RAYONNAGE, command, f"--{component}", family, *more, *options],
            cwd=platform.home,
            env=environment_without_settings(),
            capture_output=True,
            text=True,
            timeout=PATIENCE_S,
            check=False,
        )
        assert done.returncode == 1
        assert detail in done.stderr
        assert "Traceback" not in done.stderr
