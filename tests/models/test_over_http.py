"""Every family as an admin gets it: trained by POST /train in a worker, served without training libraries."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import httpx2
import psutil
import pytest

from tests.e2e.api import catalogue, finished_job, ingest, job_events, start_training
from tests.e2e.platform import Platform, running_platform
from tests.waiting import eventually

pytestmark = [pytest.mark.models, pytest.mark.timeout(900)]

PROJECT = Path(__file__).parents[2]
SAMPLE = PROJECT / "data" / "sample"
ROWS = 500
WITHIN_S = 600
TRAINING_LIBRARIES = ("tensorflow", "torch", "sklearn")
SMALL_PHOTO_NETWORK = {"weights": "none", "input_size": 32, "epochs": 1, "fine_tune_epochs": 1}
SMALL_TRANSFORMER = {"weights": "none", "layers": 1, "width": 32, "vocabulary": 500, "max_tokens": 32, "epochs": 1}


@pytest.fixture(scope="module")
def platform(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Platform]:
    """A platform with products and a champion of the two cheapest families.

    Its first training of `camembert` has to install the environment, for which its Makefile links the real one.
    """
    home = tmp_path_factory.mktemp("platform")
    environment = PROJECT / ".venv-camembert"
    (home / "Makefile").write_text(f"camembert-env:\n\t@echo Linking {environment}\n\t@ln -s {environment}\n")
    with running_platform(home, {"TRAIN_INSTALL_FAMILIES": "true"}) as running:
        with running.client(running.admin_token()) as client:
            some = catalogue(SAMPLE, 0, ROWS)
            answer = ingest(client, some.features, some.target, some.images)
            assert answer.status_code == 201, answer.text
            wanted = {"text": "tfidf-svm", "image": "efficientnet-lite0"}
            finished_job(client, start_training(client, **wanted), WITHIN_S)
        yield running


@pytest.fixture
def admin(platform: Platform) -> Iterator[httpx2.Client]:
    with platform.client(platform.admin_token()) as client:
        yield client


def predicted(client: httpx2.Client, *, title: bool = True, photo: bool = True) -> dict[str, Any]:
    """Return the answer for a product with a title, a photo, or both."""
    parts: dict[str, Any] = {}
    if title:
        parts["designation"] = (None, "Piscine gonflable")
    if photo:
        parts["image"] = ("p.jpg", (SAMPLE / "exemple.jpg").read_bytes())
    answer = client.post("/predict", files=parts)
    assert answer.status_code == 200, answer.text
    document: dict[str, Any] = answer.json()
    return document


def loaded_libraries(platform: Platform) -> set[str]:
    """Return which training libraries predict's process has mapped."""
    paths = [one.path for one in psutil.Process(platform.pid("predict")).memory_maps()]
    return {name for name in TRAINING_LIBRARIES if any(f"/{name}/" in path for path in paths)}


@pytest.mark.parametrize(
    ("path", "wanted"),
    [
        ("/train/text", {"text": "lstm", "parameters": {"epochs": 2}}),
        ("/train/text", {"text": "camembert", "parameters": SMALL_TRANSFORMER}),
        ("/train/image", {"image": "vgg16", "parameters": SMALL_PHOTO_NETWORK}),
        ("/train/image", {"image": "resnet50", "parameters": {**SMALL_PHOTO_NETWORK, "precision": "int8"}}),
        ("/train", {"text": "tfidf-embedding", "image": "efficientnet-lite0", "fusion": "concatenate"}),
    ],
    ids=["lstm", "camembert", "vgg16", "resnet50-int8", "concatenate"],
)
def test_a_family_is_trained_by_a_worker_and_served_without_its_library(
    platform: Platform, admin: httpx2.Client, path: str, wanted: dict[str, Any]
) -> None:
    job = finished_job(admin, start_training(admin, path, **wanted, promote="always"), WITHIN_S)

    version = job["result"]["version"]
    assert eventually(lambda: predicted(admin)["model"]["version"] == version)
    # For a product with both, the better model alone may answer: a fusion that is no better than it is left out.
    assert predicted(admin, photo=False)["modalities"]["text"]["used"]
    assert predicted(admin, title=False)["modalities"]["image"]["used"]
    shown = admin.get(f"/models/{version}").json()
    for modality in {"text", "image", "fusion"} & wanted.keys():
        left_out = modality == "fusion" and "fusion" in shown["manifest"]["left_out"]
        assert left_out or shown["families"][modality] == wanted[modality]
    assert shown["evaluation"] is not None
    assert loaded_libraries(platform) == set()


def test_what_a_family_lacked_was_installed_by_its_job(platform: Platform, admin: httpx2.Client) -> None:
    if not (platform.home / ".venv-camembert").exists():  # this test runs alone
        wanted = {"text": "camembert", "parameters": SMALL_TRANSFORMER, "promote": "never"}
        finished_job(admin, start_training(admin, "/train/text", **wanted), WITHIN_S)
    assert platform.has_logged("train-runner", "install.output", "Linking", "job_id")
    assert platform.has_logged("train-runner", "install.succeeded", "camembert-env")


def test_a_network_whose_worker_was_killed_goes_on_at_its_last_epoch(platform: Platform, admin: httpx2.Client) -> None:
    parameters = {"epochs": 100, "patience": 100}  # not done before the worker is killed, on a fast machine either
    job_id = start_training(admin, "/train/text", text="lstm", parameters=parameters, promote="never")
    killed_at, resumed = 0, set()

    for job in job_events(admin, job_id, WITHIN_S):
        found = re.search(r"epoch (\d+) of at most", job["message"] or "")
        epoch = int(found[1]) if found else 0
        if job["attempts"] == 2 and epoch:
            resumed.add(epoch)
        if not killed_at and epoch >= 3:
            platform.kill("train-worker")
            killed_at = epoch

    assert finished_job(admin, job_id, WITHIN_S)["attempts"] == 2
    assert min(resumed) >= killed_at, "an epoch that was whole was learned again"


def test_a_search_trains_with_what_it_found(admin: httpx2.Client) -> None:
    job_id = start_training(admin, "/train/search", text="tfidf-svm", trials=2, promote="never")

    result = finished_job(admin, job_id, WITHIN_S)["result"]

    assert len(result["search"]["trials"]) == 2
    assert result["search"]["value"] >= result["search"]["value_of_defaults"]
    assert admin.get(f"/models/{result['version']}").json()["manifest"]["parameters"] == result["search"]["parameters"]


def test_missing_weights_are_reported_at_once(admin: httpx2.Client) -> None:
    wanted = {"text": "camembert", "parameters": {"weights": "nobody-has-these"}}
    job_id = start_training(admin, "/train/text", **wanted, promote="never")

    job = list(job_events(admin, job_id, WITHIN_S))[-1]

    assert job["status"] == "failed"
    assert "nobody-has-these" in job["error"]
