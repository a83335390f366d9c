"""The plan of a training: decided once, before anything is fitted, so that a resumed run makes the same bundle."""

from __future__ import annotations

import json
import secrets
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from rayonnage_shared.core.errors import BadInput
from rayonnage_shared.ml.base.categories import Categories
from rayonnage_shared.ml.bundles.champion import ChampionBroken, read_champion
from rayonnage_shared.ml.bundles.manifest import BundleBroken, BundleNotFound, Families, Manifest, read_manifest
from rayonnage_shared.ml.bundles.origins import is_demo_model
from rayonnage_shared.ml.catalogue.datasets import DatasetStore
from rayonnage_shared.ml.families import Component, fusion_family
from rayonnage_shared.ml.training.requests import TrainRequest

MIN_PHOTOS = 20
DEFAULT_FUSION = "weighted"
_WORDS: dict[Component, str] = {"text": "text", "image": "photo"}


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
    left_out: dict[Component, str] = field(default_factory=dict)
    """Why the bundle has no text or photo model."""

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

    A model of the champion is kept only if it was trained on the same line of data, real or demo, and on the same
    categories. Raises DatasetNotFound, BadInput when no family is left, the categories have changed or the fusion
    refuses its parameters, or ChampionBroken, BundleBroken or BundleNotFound when a model of the champion is to be kept
    and cannot be read.
    """
    assert request.dataset_version is not None  # `validate_request` resolves it
    products = store.load(request.dataset_version)
    photos = sum(photo is not None for photo in products.take(products.splits == "train").photos)
    families: dict[Component, str | None] = {
        "text": request.text,
        "image": request.image if photos >= MIN_PHOTOS else None,
    }
    codes = tuple(sorted({*categories.codes, *(int(code) for code in products.codes)}))
    base = _champion(request, models_path)
    demo = store.describe(request.dataset_version).demo
    kept, left_out = list[str](), dict[Component, str]()
    for modality in [one for one, family in families.items() if family is None]:
        objection = _why_not_kept(modality, base, models_path, demo=demo)
        if objection is None and base is not None and base.categories.codes != codes:
            objection = f"The categories have changed since {base.version} was trained"
            if modality == "text" or photos >= MIN_PHOTOS:
                raise BadInput(f"{objection}; train both modalities.")
            objection += "."
        if objection is None and base is not None:
            kept.append(modality)
            families[modality] = base.families.present()[modality]
        else:
            left_out[modality] = f"{objection}{_few_photos(photos) if modality == 'image' else ''}"
    if not any(families.values()):
        reasons = " ".join(left_out.values())
        raise BadInput(f"Name a text family, or an image family and enough photos. {reasons}")
    fusion = request.fusion or (base.fitted_fusion() if base else None) or DEFAULT_FUSION
    fusion_family(fusion).resolve(request.parameters_of("fusion"))  # refused now, since it is fitted last
    return Plan(
        version=f"{datetime.now(UTC):%Y%m%dT%H%M%SZ}-{secrets.token_hex(2)}",
        dataset_version=request.dataset_version,
        base_version=base.version if base and kept else None,
        text=families["text"],
        image=families["image"],
        kept=tuple(kept),
        codes=codes,
        fusion=fusion,
        left_out=left_out,
    )


def _why_not_kept(modality: Component, base: Manifest | None, models_path: Path, *, demo: bool) -> str | None:
    """Return why a model of the champion is no part of a bundle for real products, or for the demo catalogue.

    None if it may be kept.
    """
    word = _WORDS[modality]
    if base is None:
        return f"There is no champion to keep a {word} model from."
    if modality not in base.families.present():
        return f"Champion {base.version} has no {word} model to keep."
    if is_demo_model(models_path, base, modality) is demo:
        return None
    other = "real products" if demo else "the demo catalogue"
    return f"The {word} model of {base.version} was trained on {other}, which is never mixed with other data."


def _few_photos(photos: int) -> str:
    if photos >= MIN_PHOTOS:
        return ""
    return f" The dataset has {photos} training photos, and {MIN_PHOTOS} are needed to train a photo model."


def _champion(request: TrainRequest, models_path: Path) -> Manifest | None:
    """Return the champion's manifest; a broken one is ignored by a request that keeps nothing of it."""
    try:
        champion = read_champion(models_path)
        return read_manifest(models_path, champion.version) if champion else None
    except (ChampionBroken, BundleBroken, BundleNotFound):
        if request.text is None or request.image is None:
            raise
        return None
