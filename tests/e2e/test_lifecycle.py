"""From the demo to real products: what becomes champion, and what a model is made of."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx2
import pytest

from tests.e2e.api import Catalogue, catalogue, finished_job, ingest, predict_form, problem, start_training
from tests.e2e.platform import Platform, running_platform
from tests.waiting import eventually

TITLE = "Robot nettoyeur de piscine hors sol"


@dataclass(frozen=True)
class Shop:
    """A platform that was started with the demo, and then given real products without photos."""

    platform: Platform
    client: httpx2.Client
    demo: str
    """The version that was trained on the demo catalogue."""
    first: dict[str, Any]
    """The result of the first training on real products."""

    def train(self, dataset: str, **wanted: Any) -> dict[str, Any]:
        """Return the result of a training of texts on a dataset version."""
        job = start_training(self.client, "/train/text", text="tfidf-svm", dataset_version=dataset, **wanted)
        result: dict[str, Any] = finished_job(self.client, job)["result"]
        return result

    def manifest(self, version: str) -> dict[str, Any]:
        found: dict[str, Any] = self.client.get(f"/models/{version}").json()["manifest"]
        return found

    def serves(self, version: str) -> bool:
        """Return whether predictions come from this version before long."""

        def comes() -> bool:
            answer = self.client.post("/predict", json={"designation": TITLE})
            return bool(answer.json()["model"]["version"] == version)

        return eventually(comes)


@pytest.fixture(scope="module")
def shop(trained_volume: Path, sample: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shop]:
    with (
        running_platform(tmp_path_factory.mktemp("lifecycle"), volume=trained_volume) as platform,
        platform.client(platform.admin_token()) as client,
    ):
        demo = str(client.get("/models").json()["champion"])
        answer = ingest(client, catalogue(sample, 0, 300).labelled)
        assert answer.status_code == 201, answer.text
        first = finished_job(client, start_training(client, text="tfidf-svm"))["result"]
        yield Shop(platform, client, demo, first)


def test_no_part_of_the_demo_model_answers_for_real_products(shop: Shop, sample: Path) -> None:
    assert shop.manifest(shop.demo)["families"]["image"]
    manifest = shop.manifest(shop.first["version"])

    assert (manifest["dataset"]["demo"], manifest["base_version"]) == (False, None)
    assert manifest["families"] == {"text": "tfidf-svm", "image": None, "fusion": None}
    assert "was trained on the demo catalogue" in manifest["left_out"]["image"]
    assert shop.first["promoted"], shop.first["reason"]
    assert shop.serves(shop.first["version"])

    photo = (sample / "exemple.jpg").read_bytes()
    with_photo = predict_form(shop.client, photo, designation=TITLE).json()
    without = shop.client.post("/predict", json={"designation": TITLE}).json()
    assert (with_photo["predictions"], with_photo["decision"]) == (without["predictions"], without["decision"])
    image = with_photo["modalities"]["image"]
    assert (image["used"], image["probability"]) == (False, None)
    assert "has no photo model" in image["reason"] and "demo catalogue" in image["reason"]
    assert without["modalities"]["image"]["reason"] is None


def test_older_data_and_the_demo_replace_a_real_champion_only_when_that_is_allowed(shop: Shop, sample: Path) -> None:
    client, first = shop.client, str(shop.first["version"])
    demo_data, old_data = (shop.manifest(one)["dataset"]["version"] for one in (shop.demo, first))

    refused = shop.train(demo_data)
    assert not refused["promoted"]
    assert "was trained on the demo catalogue, and there is the real dataset" in refused["reason"]
    assert "allow_older_data" in shop.train(demo_data, promote="always")["reason"]
    problem(client.post(f"/models/{shop.demo}/promote"), 409, "older_data")
    problem(client.post("/models/rollback"), 409, "older_data")
    assert client.get("/models").json()["champion"] == first

    demo = shop.train(demo_data, promote="always", allow_older_data=True)
    assert demo["promoted"], demo["reason"]
    assert "demo catalogue" in shop.platform.promotions()[-1]["reason"]
    assert client.post("/models/rollback").json()["version"] == first, "from the demo to real products"
    back = client.post("/models/rollback", json={"reason": "a test", "allow_older_data": True}).json()
    assert back["version"] == shop.demo
    assert back["reason"].startswith("a test (older data allowed: ")
    assert shop.platform.promotions()[-1]["reason"] == back["reason"]
    assert client.post(f"/models/{first}/promote").status_code == 200

    newer = ingest(client, catalogue(sample, 300, 900).labelled).json()["dataset_version"]
    again = shop.train(old_data)
    assert not again["promoted"]
    assert f"was trained on dataset {old_data}, and the newest was {newer}" in again["reason"]
    latest = shop.train(newer)
    assert latest["reason"].endswith(f"compared on dataset {newer}")


def test_a_fusion_that_is_no_better_than_text_is_left_out(shop: Shop, sample: Path) -> None:
    there = catalogue(sample, 900, 1150)
    names = list(there.photos)
    photos = dict(zip(names, [there.photos[name] for name in names[7:] + names[:7]], strict=True))
    wrong = Catalogue(there.rows, photos)
    assert ingest(shop.client, wrong.features, wrong.target, wrong.images).status_code == 201

    made = finished_job(shop.client, start_training(shop.client, text="tfidf-svm", promote="always"))["result"]

    manifest = shop.manifest(made["version"])
    assert manifest["families"] == {"text": "tfidf-svm", "image": "efficientnet-lite0", "fusion": None}
    assert manifest["best_part"] == "text"
    assert "the fusion is right" in manifest["left_out"]["fusion"]
    assert manifest["models"]["fusion"]["family"] == "weighted", "so that the next training tries it again"
    assert shop.serves(made["version"])
    photo = (sample / "exemple.jpg").read_bytes()
    both = predict_form(shop.client, photo, designation=TITLE).json()
    text = shop.client.post("/predict", json={"designation": TITLE}).json()
    assert (both["predictions"], both["decision"]) == (text["predictions"], text["decision"])
    assert both["modalities"]["image"]["reason"].endswith("The fusion is not significantly better.")
    assert predict_form(shop.client, photo).json()["modalities"]["image"]["used"]
