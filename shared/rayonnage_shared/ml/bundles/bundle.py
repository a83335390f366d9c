"""A bundle: the models, thresholds and manifest that serving needs, in one folder, with the sha256 of each file."""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np

from rayonnage_shared.core.errors import RayonnageError
from rayonnage_shared.ml.base.model import FloatArray, Fusion, ImageModel, ModelOutput, Pixels, ProductText, TextModel
from rayonnage_shared.ml.bundles.manifest import (
    BundleBroken,
    Manifest,
    check_files,
    read_manifest,
    read_manifest_in,
)
from rayonnage_shared.ml.calibration.thresholds import Decisions, Mode
from rayonnage_shared.ml.families import Component, UnknownFamily, fusion_family, image_family, text_family

DECISIONS_NAME = "decisions.json"


Interval = tuple[float, float]
"""Begin and end by `time.perf_counter`."""


@dataclass(frozen=True, slots=True)
class BundleOutput:
    """The output for one product; probability vectors are (n_classes,), None for a modality that was not used."""

    probabilities: FloatArray
    text: FloatArray | None
    image: FloatArray | None
    accepted: bool
    stages: Mapping[str, Interval]
    """When `text`, `image` and `fusion` began and ended, as far as they were needed."""


@dataclass(frozen=True)
class Bundle:
    """A loaded bundle; thread-safe, since nothing changes after loading."""

    manifest: Manifest
    text_model: TextModel | None
    image_model: ImageModel | None
    fusion: Fusion | None
    """None if the bundle has only one modality."""
    decisions: Decisions

    @property
    def version(self) -> str:
        """Return the version that the manifest names."""
        return self.manifest.version

    @property
    def codes(self) -> tuple[int, ...]:
        """Return the product type code of each class."""
        return self.manifest.categories.codes

    @property
    def family(self) -> str:
        """Return the family that predictions are attributed to: `fusion`, or that of the only model."""
        families = self.manifest.families
        if families.fusion is not None:
            return "fusion"
        return str(families.image if self.ignores("text") else families.text or families.image)

    def predict(self, text: ProductText | None, pixels: Pixels | None) -> BundleOutput:
        """Return the output for one product; `pixels` is (size, size, 3).

        A modality without a model counts as missing. Raises ModalityMissing if none remains.
        """
        has_text, has_image = text is not None, pixels is not None
        if text is not None and pixels is not None:
            text, pixels = None if self.ignores("text") else text, None if self.ignores("image") else pixels
        begin = time.perf_counter()
        by_text = self.text_model.output([text]) if self.text_model and text is not None else None
        text_end = time.perf_counter()
        by_image = self.image_model.output(pixels[None]) if self.image_model and pixels is not None else None
        image_end = time.perf_counter()
        if by_text is None and by_image is None:
            raise ModalityMissing(self._missing(has_text, has_image))
        combined = self.combine(by_text, by_image)[0]
        mode: Mode = "both" if by_text is not None and by_image is not None else "image" if by_text is None else "text"
        position = int(combined.argmax())
        accepted = self.decisions.accepts(mode, position, float(combined[position]))
        stages: dict[str, Interval] = {}
        if by_text is not None:
            stages["text"] = begin, text_end
        if by_image is not None:
            stages["image"] = text_end, image_end
        if mode == "both":
            stages["fusion"] = image_end, time.perf_counter()
        return BundleOutput(
            probabilities=combined,
            text=None if by_text is None else by_text.probabilities[0],
            image=None if by_image is None else by_image.probabilities[0],
            accepted=accepted,
            stages=stages,
        )

    def ignores(self, modality: Literal["text", "image"]) -> bool:
        """Return whether a product with both modalities is predicted without this one, as if it were not sent."""
        if self.manifest.families.fusion is not None or not (self.text_model and self.image_model):
            return False
        return modality != (self.manifest.best_part or "text")

    def why_unused(self, modality: Literal["text", "image"]) -> str | None:
        """Return why a modality that was sent is not used."""
        if not self.ignores(modality):
            return self.why_missing(modality)
        used, unused = ("photo", "text") if modality == "text" else ("text", "photo")
        reason = self.manifest.left_out.get("fusion", "")
        return f"With text and photo, model {self.version} uses the {used} alone, not the {unused}. {reason}".rstrip()

    def why_missing(self, component: Component) -> str | None:
        """Return why there is no such model, or None if there is one."""
        if component in self.manifest.families.present():
            return None
        word = {"text": "text model", "image": "photo model", "fusion": "fusion"}[component]
        reason = self.manifest.left_out.get(component)
        return f"Model {self.version} has no {word}.{f' {reason}' if reason else ''}"

    def _missing(self, has_text: bool, has_image: bool) -> str:
        photo_alone = has_image and not has_text
        sent, reason = ("a photo", self.why_missing("image")) if photo_alone else ("a text", self.why_missing("text"))
        words = f"The champion cannot use {sent} alone; send the other modality too, or train a model for it."
        return words if reason is None else f"{words} {reason}"

    def combine(self, text: ModelOutput | None, image: ModelOutput | None) -> FloatArray:
        """Return probabilities (n, n_classes) from the outputs of one modality or both."""
        if self.fusion is not None:
            return self.fusion.combine(text, image)
        known = image if text is None or (image is not None and self.ignores("text")) else text
        if known is None:
            raise ValueError("neither text nor image was given")
        return known.probabilities

    def warm_up(self) -> None:
        """Run each model once, so that the first request does not wait for lazy initialisation."""
        if self.text_model is not None:
            self.text_model.predict_proba([ProductText("piscine gonflable", "pour enfant")])
        if self.image_model is not None:
            size = self.image_model.input_size
            self.image_model.predict_proba(np.zeros((1, size, size, 3), dtype=np.uint8))


class ModalityMissing(RayonnageError):
    status, code, title = 422, "modality_not_served", "The champion has no model for what was sent"


def load_bundle(models_path: Path, version: str) -> Bundle:
    """Load a version and check its files against the manifest. Raises BundleNotFound or BundleBroken."""
    return _load(models_path / version, read_manifest(models_path, version))


def load_folder(folder: Path) -> Bundle:
    """Load the bundle in `folder`, which may be anywhere. Raises BundleNotFound or BundleBroken."""
    return _load(folder, read_manifest_in(folder))


def _load(folder: Path, manifest: Manifest) -> Bundle:
    text, image, fusion = manifest.families.text, manifest.families.image, manifest.families.fusion
    try:
        check_files(folder, manifest.files)
        return Bundle(
            manifest=manifest,
            text_model=text_family(text).load(folder / "text") if text else None,
            image_model=image_family(image).load(folder / "image") if image else None,
            fusion=fusion_family(fusion).load(folder / "fusion") if fusion else None,
            decisions=Decisions.load(folder / DECISIONS_NAME),
        )
    except (KeyError, ValueError, OSError, UnknownFamily) as error:
        raise BundleBroken(f"Bundle {manifest.version} cannot be loaded: {error}. Promote another version.") from error
