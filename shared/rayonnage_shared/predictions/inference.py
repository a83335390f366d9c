"""Inference: a product in, its prediction and the time of each stage out.

The predict service, the command line, the MLflow model and the benchmarks all call `predict_product`.
"""

from __future__ import annotations

import csv
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from ulid import ULID

from rayonnage_shared.core.errors import BadInput, RayonnageError
from rayonnage_shared.ml.base.categories import Categories
from rayonnage_shared.ml.base.model import FloatArray, Pixels, ProductText
from rayonnage_shared.ml.bundles.bundle import Bundle, Interval
from rayonnage_shared.ml.features.photos import PhotoLimits, read_photo
from rayonnage_shared.ml.features.text import product_text
from rayonnage_shared.predictions.schemas import CategoryDocument, ModalityDocument, Prediction, PredictionDocument


@dataclass(frozen=True, slots=True)
class TimedPrediction:
    """A prediction, and when `prepare` (cleaning, decoding), `text`, `image` and `fusion` began and ended.

    A stage that was not needed is absent.
    """

    document: PredictionDocument
    stages: Mapping[str, Interval]

    @property
    def prediction(self) -> Prediction:
        """The prediction as a model, which takes longer to build than the document."""
        return Prediction.model_validate(self.document)


def predict_product(
    bundle: Bundle,
    categories: Categories,
    designation: str | None,
    description: str | None,
    photo: bytes | None,
    *,
    top_k: int = 3,
    product_identifier: str | None = None,
    limits: PhotoLimits | None = None,
    received_at: float | None = None,
) -> TimedPrediction:
    """Return the prediction for one product, with the `top_k` most probable categories.

    `duration_ms` counts from `received_at` (`time.perf_counter`), or from this call. Raises BadInput, NotAnImage,
    ImageTooLarge or ModalityMissing.
    """
    begin = time.perf_counter()
    text, pixels = _prepare(bundle, designation, description, photo, limits or PhotoLimits())
    prepared = time.perf_counter()
    output = bundle.predict(text, pixels)
    duration_s = time.perf_counter() - (begin if received_at is None else received_at)
    ranked = _most_probable(bundle, categories, output.probabilities, top_k)
    best = ranked[0]
    document: PredictionDocument = {
        "prediction_id": str(ULID()),
        "predicted": str(best["category_id"]),
        "predicted_category": str(best["category_id"]),
        "category_id": best["category_id"],
        "label": best["label"],
        "confidence": best["probability"],
        "predictions": ranked,
        "modalities": {
            "text": _modality(bundle, "text", output.text, sent=text is not None),
            "image": _modality(bundle, "image", output.image, sent=photo is not None),
        },
        "model": {"version": bundle.version, "family": bundle.family},
        "decision": "accept" if output.accepted else "review",
        "product_identifier": product_identifier,
        "duration_ms": round(1000 * duration_s, 3),
    }
    return TimedPrediction(document, {"prepare": (begin, prepared), **output.stages})


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
        found = predict_product(bundle, categories, row.get("designation"), row.get("description"), photo).document
    except RayonnageError as error:
        return {**answer, **empty, "error": error.detail}
    return {
        **answer,
        "prdtypecode": found["category_id"],
        "label": found["label"],
        "confidence": round(found["confidence"], 4),
        "decision": found["decision"],
        "error": "",
    }


def _catalogue_photo(row: dict[str, str], images: Path | None) -> bytes | None:
    if images is None:
        return None
    named = row.get("image") or f"image_{row.get('imageid')}_product_{row.get('productid')}.jpg"
    path = images / Path(named).name
    return path.read_bytes() if path.is_file() else None


def _prepare(
    bundle: Bundle, designation: str | None, description: str | None, photo: bytes | None, limits: PhotoLimits
) -> tuple[ProductText | None, Pixels | None]:
    """Return the cleaned text, and the photo as (size, size, 3) uint8."""
    text = product_text(designation, description)
    has_text = bool(text.title or text.description)
    if not has_text and photo is None:
        raise BadInput("There is no text after cleaning and no photo; send a title in words, or a photo.")
    size = bundle.image_model.input_size if bundle.image_model is not None else 224
    return text if has_text else None, None if photo is None else read_photo(photo, size, limits)


def _most_probable(
    bundle: Bundle, categories: Categories, probabilities: FloatArray, top_k: int
) -> list[CategoryDocument]:
    positions = (-probabilities).argsort(kind="stable")[:top_k]
    return [
        {
            "category_id": bundle.codes[position],
            "label": _label(bundle, categories, bundle.codes[position]),
            "probability": probability,
        }
        for position, probability in zip(positions.tolist(), probabilities[positions].tolist(), strict=True)
    ]


def _label(bundle: Bundle, categories: Categories, code: int) -> str:
    return categories.labels.get(code) or bundle.manifest.categories.label(code)


def _modality(
    bundle: Bundle, modality: Literal["text", "image"], probabilities: FloatArray | None, *, sent: bool
) -> ModalityDocument:
    if probabilities is None:
        reason = bundle.why_unused(modality) if sent else None
        return {"used": False, "category_id": None, "probability": None, "reason": reason}
    position = int(probabilities.argmax())
    probability = float(probabilities[position])
    return {"used": True, "category_id": bundle.codes[position], "probability": probability, "reason": None}
