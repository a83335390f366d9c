"""Predictions for the test split: `<data>/predictions/<version>.csv`, and the newest as `predictions.json`."""

from __future__ import annotations

import csv
import io
import json
import math
from pathlib import Path

from rayonnage_shared.core.files import write_atomically
from rayonnage_shared.ml.base.model import FloatArray
from rayonnage_shared.ml.catalogue.ingestion.reports import without_formula
from rayonnage_shared.ml.catalogue.products import Products
from rayonnage_shared.ml.evaluation.scoring import Scores

COLUMNS = (
    "product_id",
    "truth",
    "predicted",
    "confidence",
    "decision",
    "text_predicted",
    "text_probability",
    "image_predicted",
    "image_probability",
)

JSON_NAME = "predictions.json"
"""The predictions of the bundle that was trained last."""


def predictions_path(data_path: Path, version: str) -> Path:
    """Return the path of a bundle's predictions, whether or not they exist."""
    return data_path / "predictions" / f"{version}.csv"


def write_predictions(path: Path, products: Products, scores: Scores, codes: tuple[int, ...]) -> None:
    """Write one row per product, atomically; categories are codes, probabilities have four digits.

    Cells that a spreadsheet would run as a formula are escaped. Cells of a missing modality are empty.
    """
    text = io.StringIO(newline="")
    writer = csv.writer(text)
    writer.writerow(COLUMNS)
    for row, (product_id, truth) in enumerate(zip(products.ids, products.codes.tolist(), strict=True)):
        writer.writerow(
            [
                without_formula(product_id),
                truth,
                *_best(scores.probabilities[row], codes),
                "accept" if scores.accepted[row] else "review",
                *_best(scores.text[row], codes),
                *_best(scores.image[row], codes),
            ]
        )
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, text.getvalue().encode())


def publish_predictions(data_path: Path, version: str, table: bytes) -> None:
    """Save a bundle's predictions, a CSV that `write_predictions` wrote, and the same rows as `predictions.json`.

    The JSON document is {"version", "predictions"}; codes and probabilities are numbers, null for a missing modality.
    """
    path = predictions_path(data_path, version)
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, table)
    rows = [_typed(row) for row in csv.DictReader(io.StringIO(table.decode(), newline=""))]
    document = {"version": version, "predictions": rows}
    write_atomically(path.with_name(JSON_NAME), json.dumps(document, ensure_ascii=False, indent=0).encode())


def _typed(row: dict[str, str]) -> dict[str, str | int | float | None]:
    found: dict[str, str | int | float | None] = dict(row)
    for name in ("truth", "predicted", "text_predicted", "image_predicted"):
        found[name] = int(row[name]) if row[name] else None
    for name in ("confidence", "text_probability", "image_probability"):
        found[name] = float(row[name]) if row[name] else None
    return found


def _best(probabilities: FloatArray, codes: tuple[int, ...]) -> tuple[int | str, str]:
    position = int(probabilities.argmax())  # of a NaN, where there is one
    probability = float(probabilities[position])
    return ("", "") if math.isnan(probability) else (codes[position], f"{probability:.4f}")
