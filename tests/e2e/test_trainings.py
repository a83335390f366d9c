"""Trainings over HTTP and on the command line: what is refused, and what an earlier training saves a later one."""

from __future__ import annotations

import json
import shutil
import sqlite3
import subprocess
from contextlib import closing
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from rayonnage_shared.ml.catalogue.datasets import DatasetStore
from rayonnage_shared.ml.features.photo_feature_cache import PhotoFeatureCache
from tests.e2e.api import TRAINED_WITHIN_S, problem
from tests.e2e.command_line import RAYONNAGE, rayonnage
from tests.e2e.platform import Platform, environment_without_settings, write_settings
from tests.processes import killed_at_end
from tests.waiting import eventually

NEEDS_NO_TENSORFLOW = pytest.mark.skipif(find_spec("tensorflow") is not None, reason="TensorFlow is installed here")


@pytest.fixture
def home(trained_volume: Path, tmp_path: Path) -> Path:
    """A platform's folder with the trained model, without its processes."""
    write_settings(tmp_path, {})
    shutil.copytree(trained_volume, tmp_path, dirs_exist_ok=True)
    return tmp_path


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
        done = rayonnage(platform.home, command, f"--{component}", family, *more, *options, within_s=TRAINED_WITHIN_S)
        assert done.returncode == 1
        assert detail in done.stderr
        assert "Traceback" not in done.stderr


def test_a_training_takes_features_of_known_photos_from_the_cache(home: Path) -> None:
    store = DatasetStore(home / "data")
    with closing(sqlite3.connect(store.photo_features_path)) as database:
        known = database.execute("SELECT network, photo FROM features").fetchall()
    photos = {photo for photo in store.load(store.current() or "").photos if photo is not None}
    assert {photo for _, photo in known} == photos, "the first training left the features of every photo"
    nothing = np.zeros(1504, dtype=np.float32)
    for network, photo in known:
        PhotoFeatureCache(store.photo_features_path).save(network, {photo: nothing})

    arguments = ("train", "--text", "none", "--image", "efficientnet-lite0", "--promote", "never")
    done = rayonnage(home, *arguments, within_s=TRAINED_WITHIN_S)

    assert done.returncode == 0, done.stderr
    version = json.loads(done.stdout)["version"]
    with np.load(home / "models" / version / "image.held_out.npz") as arrays:
        rows = next(array for array in arrays.values() if array.ndim == 2)
    known_rows = rows[np.isfinite(rows).all(axis=1)]
    assert len(known_rows) > 100
    assert len(np.unique(known_rows.round(4), axis=0)) <= 5, "equal features give one answer for each fold"


def test_a_training_by_command_that_was_killed_is_resumed_by_the_same_command(home: Path) -> None:
    arguments = ("train", "--text", "tfidf-svm", "--image", "none", "--promote", "never")
    training = subprocess.Popen(
        [*RAYONNAGE, *arguments],
        cwd=home,
        env=environment_without_settings(),
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    with killed_at_end(training):
        assert eventually(lambda: any((home / "models").glob(".work/cli-*/text.done")), TRAINED_WITHIN_S)
    (work,) = (home / "models").glob(".work/cli-*")
    model = {path.name: path.stat().st_mtime_ns for path in (work / "bundle" / "text").iterdir()}
    planned = json.loads((work / "plan.json").read_text())["version"]

    done = rayonnage(home, *arguments, within_s=TRAINED_WITHIN_S)

    assert done.returncode == 0, done.stderr
    assert "finished stages are not run again" in " ".join(done.stderr.split())
    assert json.loads(done.stdout)["version"] == planned
    assert {path.name: path.stat().st_mtime_ns for path in (home / "models" / planned / "text").iterdir()} == model
    assert not work.exists()
