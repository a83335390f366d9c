"""What a training is going to make, decided before anything is fitted."""

from __future__ import annotations

from pathlib import Path

import pytest

from rayonnage_shared.core.errors import RayonnageError
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


@pytest.fixture
def volumes(tmp_path: Path) -> Path:
    """A dataset of texts and a champion with a text model."""
    ingest(
        DatasetStore(tmp_path), write_csv(tmp_path / "features.csv", many_rows(30)), None, None, categories=CATEGORIES
    )
    write_bundle(tmp_path / "models")
    write_champion(tmp_path / "models", Champion.promoted(VERSION, "jane", "first"))
    return tmp_path


def plan(volumes: Path, request: TrainRequest) -> Plan:
    store = DatasetStore(volumes)
    request = request.model_copy(update={"dataset_version": store.current()})
    return make_plan(request, store, volumes / "models", CATEGORIES)


def test_a_modality_that_is_not_asked_for_is_kept(volumes: Path) -> None:
    found = plan(volumes, KEEPS_TEXT)
    assert (found.kept, found.base_version, found.text) == (("text",), VERSION, "tfidf-svm")


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
