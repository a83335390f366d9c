"""Products as drift sees them: the same columns for what the champion was judged on and for what it answered."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, NamedTuple

import numpy as np

from rayonnage_shared.drift.languages import language
from rayonnage_shared.ml.base.model import FloatArray, IntArray, ProductText
from rayonnage_shared.ml.base.progress import Progress, silent
from rayonnage_shared.ml.features.sentence_embedding import embedding_input, encode_many
from rayonnage_shared.ml.features.text import product_text

if TYPE_CHECKING:
    import pandas as pd

YES, NO = "yes", "no"

Kind = Literal["number", "confidence", "category"]

COLUMNS: dict[str, Kind] = {
    "has_title": "category",
    "title_characters": "number",
    "title_words": "number",
    "has_description": "category",
    "description_characters": "number",
    "description_words": "number",
    "language": "category",
    "has_photo": "category",
    "category": "category",
    "confidence": "confidence",
    "text_confidence": "confidence",
    "photo_confidence": "confidence",
}
"""What a table holds. A cell is empty where the product lacks what it is about, or nobody knows."""


class JudgedProduct(NamedTuple):
    """A product as it was sent, and what a bundle said of it; None for what was not sent, used or kept."""

    designation: str | None
    description: str | None
    has_photo: bool
    category_id: int
    confidence: float
    text_probability: float | None
    """How sure the text model alone is of what it says; the photo model's likewise."""
    image_probability: float | None


@dataclass(frozen=True, slots=True)
class Observations:
    """`table` has a row a product and the columns `COLUMNS`; `embeddings` (n, 512) float32 are NaN without a text."""

    table: pd.DataFrame
    embeddings: FloatArray

    def __len__(self) -> int:
        return len(self.table)

    def take(self, rows: IntArray) -> Observations:
        """Return the rows at these positions."""
        return Observations(self.table.iloc[rows].reset_index(drop=True), self.embeddings[rows])


def observe(products: Iterable[JudgedProduct], progress: Progress = silent) -> Observations:
    """Return what drift compares of these products; 4 ms each, nearly all of it for the sentence embedding."""
    import pandas as pd

    judged = list(products)
    texts = [product_text(one.designation, one.description) for one in judged]
    rows = [_row(one, text) for one, text in zip(judged, texts, strict=True)]
    table = pd.DataFrame(rows, columns=list(COLUMNS))
    for name, kind in COLUMNS.items():
        table[name] = table[name].astype("object" if kind == "category" else "float64")
    return Observations(table, _embeddings(texts, progress))


def _row(judged: JudgedProduct, text: ProductText) -> tuple[str | float | None, ...]:
    words = embedding_input(text)
    # The text was used and is not there: PREDICTION_LOG_TEXTS=false. Nobody knows then which part of it was sent.
    unknown = not words and judged.text_probability is not None
    return (
        None if unknown else _yes(bool(text.title)),
        *_sizes(text.title),
        None if unknown else _yes(bool(text.description)),
        *_sizes(text.description),
        language(words) if words else None,
        _yes(judged.has_photo),
        str(judged.category_id),
        judged.confidence,
        _number(judged.text_probability),
        _number(judged.image_probability),
    )


def _sizes(text: str) -> tuple[float, float]:
    return (float(len(text)), float(len(text.split()))) if text else (math.nan, math.nan)


def _yes(fact: bool) -> str:
    return YES if fact else NO


def _number(value: float | None) -> float:
    return math.nan if value is None else value


def _embeddings(texts: Sequence[ProductText], progress: Progress) -> FloatArray:
    inputs = [embedding_input(text) for text in texts]
    there = [row for row, one in enumerate(inputs) if one]
    known = encode_many([inputs[row] for row in there], progress)
    embeddings = np.full((len(inputs), known.shape[1]), np.nan, dtype=np.float32)
    embeddings[there] = known
    return embeddings
