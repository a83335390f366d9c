"""What a training is going to make, decided before anything is fitted."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from rayonnage_shared.core.errors import BadInput, RayonnageError
from rayonnage_shared.ml.base.categories import Categories
from rayonnage_shared.ml.bundles.champion import POINTER_NAME, Champion, ChampionBroken, write_champion
from rayonnage_shared.ml.bundles.manifest import BundleBroken, BundleNotFound
from rayonnage_shared.ml.catalogue.datasets import DatasetStore
from rayonnage_shared.ml.catalogue.ingestion.ingest import ingest
from rayonnage_shared.ml.training.plan import Plan, make_plan
from rayonnage_shared.ml.training.requests import TrainRequest
from tests.unit.shared.ml.bundles.manifests import VERSION, write_bundle
from tests.unit.shared.ml.catalogue.catalogues import many_rows, write_csv

CATEGORIES = Categories((10, 40), {10: "a", 40: "b"})
KEEPS_NOTHING = TrainRequest(text="tfidf-svm", image="efficientnet-lite0")
KEEPS_TEXT = TrainRequest(text=None, image="efficientnet-lite0")
KEEPS_BOTH = TrainRequest(text=None, image=None)
OLDER = "20261120T081500Z-0001"


@pytest.fixture
def volumes(tmp_path: Path) -> Path:
    """A dataset of texts and a champion with a text model."""
    ingest(
        DatasetStore(tmp_path), write_csv(tmp_path / "features.csv", many_rows(30)), None, None, categories=CATEGORIES
    )
    write_bundle(tmp_path / "models")
    write_champion(tmp_path / "models", Champion.promoted(VERSION, "jane", "first"))
    return tmp_path


def plan(volumes: Path, request: TrainRequest, categories: Categories = CATEGORIES) -> Plan:
    store = DatasetStore(volumes)
    request = request.model_copy(update={"dataset_version": store.current()})
    return make_plan(request, store, volumes / "models", categories)


def test_a_modality_that_is_not_asked_for_is_kept(volumes: Path) -> None:
    found = plan(volumes, KEEPS_TEXT)
    assert (found.kept, found.base_version, found.text) == (("text",), VERSION, "tfidf-svm")


DEMO: dict[str, Any] = {"dataset": {"version": "20261119T081500Z-dddd", "sha256": "ab" * 32, "demo": True}}
WITH_PHOTOS: dict[str, Any] = {"families": {"text": "tfidf-svm", "image": "vgg16", "fusion": "weighted"}}


def test_no_model_of_the_demo_catalogue_becomes_part_of_a_bundle_for_real_products(volumes: Path) -> None:
    write_bundle(volumes / "models", **DEMO, **WITH_PHOTOS)

    found = plan(volumes, KEEPS_NOTHING)

    assert (found.text, found.image, found.kept, found.base_version) == ("tfidf-svm", None, (), None)
    assert found.left_out == {
        "image": f"The photo model of {VERSION} was trained on the demo catalogue, which is never mixed with other "
        "data. The dataset has 0 training photos, and 20 are needed to train a photo model."
    }
    with pytest.raises(BadInput, match=r"text model of .* was trained on the demo catalogue"):
        plan(volumes, KEEPS_TEXT)


def test_a_model_that_a_real_champion_once_kept_from_the_demo_is_not_kept_again(volumes: Path) -> None:
    photo_model = {"image/model.onnx": "cd" * 32}
    write_bundle(volumes / "models", OLDER, **DEMO, **WITH_PHOTOS, files=photo_model)
    write_bundle(volumes / "models", base_version=OLDER, **WITH_PHOTOS, files=photo_model | {"text/a": "ef" * 32})

    found = plan(volumes, KEEPS_BOTH)

    assert (found.kept, found.image) == (("text",), None)
    assert "was trained on the demo catalogue" in found.left_out["image"]


def test_a_champion_for_real_products_gives_nothing_to_a_bundle_for_the_demo_catalogue(volumes: Path) -> None:
    write_bundle(volumes / "models", **WITH_PHOTOS)
    ingest(
        DatasetStore(volumes / "demo"),
        write_csv(volumes / "demo.csv", many_rows(30)),
        None,
        None,
        categories=CATEGORIES,
        demo=True,
    )
    store = DatasetStore(volumes / "demo")
    request = KEEPS_NOTHING.model_copy(update={"dataset_version": store.current()})

    found = make_plan(request, store, volumes / "models", CATEGORIES)

    assert (found.kept, found.image) == ((), None)
    assert "was trained on real products" in found.left_out["image"]


def test_a_new_category_with_too_few_photos_leaves_out_the_photo_model(volumes: Path) -> None:
    write_bundle(volumes / "models", **WITH_PHOTOS)
    new_category = Categories((10, 40, 50), {10: "a", 40: "b", 50: "c"})

    found = plan(volumes, KEEPS_NOTHING, new_category)

    assert (found.text, found.image, found.kept) == ("tfidf-svm", None, ())
    assert found.left_out["image"].startswith(f"The categories have changed since {VERSION} was trained. The dataset")
    assert plan(volumes, KEEPS_NOTHING).kept == ("image",), "with the same categories it is kept"


def test_a_model_that_could_be_trained_again_is_asked_for_before_anything_is_fitted(volumes: Path) -> None:
    new_category = Categories((10, 40, 50), {10: "a", 40: "b", 50: "c"})
    with pytest.raises(BadInput, match="train both modalities"):
        plan(volumes, KEEPS_TEXT, new_category)


@pytest.mark.parametrize(
    ("models", "fusion"), [({"fusion": {"family": "concatenate"}}, "concatenate"), ({}, "weighted")]
)
def test_a_fusion_that_was_left_out_is_tried_again(volumes: Path, models: dict[str, Any], fusion: str) -> None:
    families = {"text": "tfidf-svm", "image": "vgg16", "fusion": None}
    write_bundle(volumes / "models", families=families, models=models, left_out={"fusion": "Text alone is better."})

    assert plan(volumes, KEEPS_NOTHING).fusion == fusion


def test_a_plan_is_read_as_it_was_written(volumes: Path) -> None:
    found = plan(volumes, KEEPS_NOTHING)
    assert found.left_out["image"].startswith(f"Champion {VERSION} has no photo model to keep.")
    assert Plan.from_json(found.to_json()) == found


@pytest.mark.parametrize(
    ("name", "content", "error"),
    [
        (f"{VERSION}/manifest.json", "{", BundleBroken),
        (f"{VERSION}/manifest.json", None, BundleNotFound),
        (POINTER_NAME, "garbage{", ChampionBroken),
    ],
)
def test_a_broken_champion_only_fails_a_training_that_keeps_a_model_of_it(
    volumes: Path, name: str, content: str | None, error: type[RayonnageError]
) -> None:
    path = volumes / "models" / name
    path.unlink() if content is None else path.write_text(content)

    found = plan(volumes, KEEPS_NOTHING)

    assert (found.kept, found.base_version, found.text) == ((), None, "tfidf-svm")
    with pytest.raises(error):
        plan(volumes, KEEPS_TEXT)
