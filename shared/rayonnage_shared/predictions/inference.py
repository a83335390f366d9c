"""One product through a bundle, from what was sent to the answer; used by the predict service and the command line."""

from __future__ import annotations

import csv
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from ulid import ULID

from rayonnage_shared.core.errors import BadInput, RayonnageError
from rayonnage_shared.ml.base.categories import Categories
from rayonnage_shared.ml.base.model import FloatArray, Pixels, ProductText
from rayonnage_shared.ml.bundles.bundle import Bundle, Outcome
from rayonnage_shared.ml.features.photos import PhotoLimits, read_photo
from rayonnage_shared.ml.features.text import product_text
from rayonnage_shared.predictions.schemas import CategoryProbability, Modalities, Modality, ModelReference, Prediction


@dataclass(frozen=True, slots=True)
class Inputs:
    """What the models see of a product; `pixels` is (size, size, 3) uint8."""

    text: ProductText | None
    pixels: Pixels | None


def prepare(
    bundle: Bundle, designation: str | None, description: str | None, photo: bytes | None, limits: PhotoLimits
) -> Inputs:
    """Return the cleaned text and the decoded photo. Raises BadInput, NotAnImage or ImageTooLarge."""
    text = product_text(designation, description)
    if not (text.title or text.description):
        if photo is None:
            raise BadInput("There is no text after cleaning and no photo; send a title in words, or a photo.")
        return Inputs(None, _pixels(bundle, photo, limits))
    return Inputs(text, _pixels(bundle, photo, limits) if photo is not None else None)


def describe(
    bundle: Bundle,
    categories: Categories,
    outcome: Outcome,
    *,
    top_k: int,
    product_identifier: str | None,
    duration_ms: float,
) -> Prediction:
    """Return the answer for one outcome, with the `top_k` most probable categories."""
    probabilities = outcome.probabilities
    best = np.argsort(-probabilities, kind="stable")[:top_k]
    ranked = [
        CategoryProbability(
            category_id=bundle.codes[i],
            label=_label(bundle, categories, bundle.codes[i]),
            probability=float(probabilities[i]),
        )
        for i in best.tolist()
    ]
    return Prediction(
        prediction_id=str(ULID()),
        predicted=str(ranked[0].category_id),
        predicted_category=str(ranked[0].category_id),
        category_id=ranked[0].category_id,
        label=ranked[0].label,
        confidence=ranked[0].probability,
        predictions=ranked,
        modalities=Modalities(text=_modality(bundle, outcome.text), image=_modality(bundle, outcome.image)),
        model=ModelReference(version=bundle.version, family=bundle.family),
        decision="accept" if outcome.accepted else "review",
        product_identifier=product_identifier,
        duration_ms=round(duration_ms, 3),
    )


def predict_product(
    bundle: Bundle,
    categories: Categories,
    designation: str | None,
    description: str | None,
    photo: bytes | None,
    *,
    top_k: int = 3,
    limits: PhotoLimits | None = None,
) -> Prediction:
    """Return the prediction for one product. Raises what `prepare` and `Bundle.predict` raise."""
    started = time.perf_counter()
    inputs = prepare(bundle, designation, description, photo, limits or PhotoLimits())
    outcome = bundle.predict(inputs.text, inputs.pixels)
    duration_ms = 1000 * (time.perf_counter() - started)
    return describe(bundle, categories, outcome, top_k=top_k, product_identifier=None, duration_ms=duration_ms)


def predict_catalogue(
    bundle: Bundle, categories: Categories, path: Path, images: Path | None
) -> Iterator[tuple[float, dict[str, Any]]]:
    """Yield (share of the rows done, output row) for each row of a features CSV; a bad row carries its `error`.

    Photos are found in the folder `images` by their marketplace name, `image_{imageid}_product_{productid}.jpg`.
    """
    with path.open(newline="", encoding="utf-8-sig") as file:
        rows = max(sum(1 for _ in csv.reader(file)) - 1, 1)
        file.seek(0)
        reader = csv.DictReader(file)
        for number, row in enumerate(reader, start=1):
            yield number / rows, _catalogue_row(bundle, categories, row, reader.line_num, images)


def _catalogue_row(
    bundle: Bundle, categories: Categories, row: dict[str, str], line: int, images: Path | None
) -> dict[str, Any]:
    answer = {"line": line, "productid": row.get("productid") or "", "imageid": row.get("imageid") or ""}
    empty = {"prdtypecode": "", "label": "", "confidence": "", "decision": ""}
    try:
        photo = _catalogue_photo(row, images)
        found = predict_product(bundle, categories, row.get("designation"), row.get("description"), photo)
    except RayonnageError as error:
        return {**answer, **empty, "error": error.detail}
    return {
        **answer,
        "prdtypecode": found.category_id,
        "label": found.label,
        "confidence": round(found.confidence, 4),
        "decision": found.decision,
        "error": "",
    }


def _catalogue_photo(row: dict[str, str], images: Path | None) -> bytes | None:
    if images is None:
        return None
    named = row.get("image") or f"image_{row.get('imageid')}_product_{row.get('productid')}.jpg"
    path = images / Path(named).name
    return path.read_bytes() if path.is_file() else None


def _pixels(bundle: Bundle, photo: bytes, limits: PhotoLimits) -> Pixels:
    size = bundle.image_model.input_size if bundle.image_model is not None else 224
    return read_photo(photo, size, limits)


def _label(bundle: Bundle, categories: Categories, code: int) -> str:
    return categories.labels.get(code) or bundle.manifest.categories.labels[code]


def _modality(bundle: Bundle, probabilities: FloatArray | None) -> Modality:
    if probabilities is None:
        return Modality(used=False)
    position = int(probabilities.argmax())
    return Modality(used=True, category_id=bundle.codes[position], probability=float(probabilities[position]))
