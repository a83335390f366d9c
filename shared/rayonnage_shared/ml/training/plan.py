"""The plan of a training: decided once, before anything is fitted, so that a resumed run makes the same bundle."""

from __future__ import annotations

import json
import secrets
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path

from rayonnage_shared.core.errors import BadInput
from rayonnage_shared.ml.base.categories import Categories
from rayonnage_shared.ml.bundles.champion import Champion, ChampionBroken, read_champion
from rayonnage_shared.ml.bundles.manifest import BundleBroken, BundleNotFound, Families, read_manifest
from rayonnage_shared.ml.catalogue.datasets import DatasetStore
from rayonnage_shared.ml.families import Component, fusion_family
from rayonnage_shared.ml.training.requests import TrainRequest

MIN_PHOTOS = 20
DEFAULT_FUSION = "weighted"


@dataclass(frozen=True, slots=True)
class Plan:
    """The bundle to make: its version, dataset and families, and which models of the champion it keeps."""

    version: str
    dataset_version: str
    base_version: str | None
    text: str | None
    image: str | None
    kept: tuple[str, ...]
    codes: tuple[int, ...]
    fusion: str = DEFAULT_FUSION

    def families(self) -> Families:
        """Return the families of the bundle; it has a fusion only with both modalities."""
        return Families(text=self.text, image=self.image, fusion=self.fusion if self.text and self.image else None)

    def to_json(self) -> bytes:
        """Return the plan as `from_json` reads it."""
        return json.dumps(asdict(self)).encode()

    @classmethod
    def from_json(cls, content: bytes) -> Plan:
        """Return the plan that `to_json` wrote."""
        document = json.loads(content)
        return cls(**{**document, "codes": tuple(document["codes"]), "kept": tuple(document["kept"])})


def make_plan(request: TrainRequest, store: DatasetStore, models_path: Path, categories: Categories) -> Plan:
    """Return the plan for a validated request, given the present champion.

    Raises DatasetNotFound, BadInput when no family is left or the fusion refuses its parameters, or
    ChampionBroken, BundleBroken or BundleNotFound when a model of the champion is to be kept and cannot be read.
    """
    assert request.dataset_version is not None  # `validate_request` resolves it
    products = store.load(request.dataset_version)
    photos = sum(photo is not None for photo in products.take(products.splits == "train").photos)
    asked: dict[Component, str | None] = {
        "text": request.text,
        "image": request.image if photos >= MIN_PHOTOS else None,
    }
    champion, base = _champion(request, models_path)
    kept = tuple(modality for modality in asked if asked[modality] is None and base.get(modality))
    families = {modality: asked[modality] or base.get(modality) for modality in asked}
    if not any(families.values()):
        raise BadInput("Name a text family, or an image family and enough photos; no champion has one to keep.")
    fusion = request.fusion or base.get("fusion") or DEFAULT_FUSION
    fusion_family(fusion).resolve(request.parameters_of("fusion"))  # refused now, since it is fitted last
    return Plan(
        version=f"{datetime.now(UTC):%Y%m%dT%H%M%SZ}-{secrets.token_hex(2)}",
        dataset_version=request.dataset_version,
        base_version=champion.version if champion and kept else None,
        text=families["text"],
        image=families["image"],
        kept=kept,
        codes=tuple(sorted({*categories.codes, *(int(code) for code in products.codes)})),
        fusion=fusion,
    )


def _champion(request: TrainRequest, models_path: Path) -> tuple[Champion | None, dict[Component, str]]:
    """Return the champion and its families; a broken one is ignored by a request that keeps nothing of it."""
    try:
        champion = read_champion(models_path)
        return champion, read_manifest(models_path, champion.version).families.present() if champion else {}
    except (ChampionBroken, BundleBroken, BundleNotFound):
        if request.text is None or request.image is None:
            raise
        return None, {}
