"""A bundle's predictions for its test split: `<data>/predictions/<version>.csv`."""

from __future__ import annotations

import csv
import io
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


def _best(probabilities: FloatArray, codes: tuple[int, ...]) -> tuple[int | str, str]:
    position = int(probabilities.argmax())  # of a NaN, where there is one
    probability = float(probabilities[position])
    return ("", "") if math.isnan(probability) else (codes[position], f"{probability:.4f}")
