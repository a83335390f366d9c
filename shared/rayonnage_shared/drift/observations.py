"""The columns that drift reports compare, the same for the reference and for recent predictions."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from rayonnage_shared.drift.languages import language
from rayonnage_shared.ml.base.model import FloatArray, IntArray, ProductText
from rayonnage_shared.ml.base.progress import Progress, silent
from rayonnage_shared.ml.features.sentence_embedding import embedding_input, encode_many
from rayonnage_shared.ml.features.text import product_text

YES, NO = "yes", "no"

ColumnType = Literal["number", "confidence", "category"]

COLUMNS: dict[str, ColumnType] = {
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
"""The columns of a table. A cell is empty if the product lacks the field or its value is not known."""


class ScoredProduct(NamedTuple):
    """A product as it was sent, and a bundle's prediction; None for what was not sent, not used or not kept."""

    designation: str | None
    description: str | None
    has_photo: bool
    category_id: int
    confidence: float
    text_probability: float | None
    """Confidence of the text model alone; `image_probability` is that of the photo model."""
    image_probability: float | None


@dataclass(frozen=True, slots=True)
class Observations:
    """`columns` has an array (n,) for each of `COLUMNS`; `embeddings` (n, 512) float32 are NaN without text.

    Numbers are float64, NaN where not known; categories are texts, None where not known.
    """

    columns: dict[str, NDArray[Any]]
    embeddings: FloatArray

    def __len__(self) -> int:
        return len(self.embeddings)

    def take(self, rows: IntArray) -> Observations:
        """Return the rows at these positions."""
        return Observations({name: cells[rows] for name, cells in self.columns.items()}, self.embeddings[rows])


def observe(products: Iterable[ScoredProduct], progress: Progress = silent) -> Observations:
    """Return the columns of these products; takes 4 ms each, nearly all of it for the sentence embedding."""
    scored = list(products)
    texts = [product_text(one.designation, one.description) for one in scored]
    rows = [_row(one, text) for one, text in zip(scored, texts, strict=True)]
    columns = {
        name: np.array([row[position] for row in rows], dtype=object if kind == "category" else np.float64)
        for position, (name, kind) in enumerate(COLUMNS.items())
    }
    return Observations(columns, _embeddings(texts, progress))


def _row(scored: ScoredProduct, text: ProductText) -> tuple[str | float | None, ...]:
    words = embedding_input(text)
    # The text was used and was not logged (PREDICTION_LOG_TEXTS=false): which of its fields were sent is not known.
    unknown = not words and scored.text_probability is not None
    return (
        None if unknown else _yes(bool(text.title)),
        *_sizes(text.title),
        None if unknown else _yes(bool(text.description)),
        *_sizes(text.description),
        language(words) if words else None,
        _yes(scored.has_photo),
        str(scored.category_id),
        scored.confidence,
        _number(scored.text_probability),
        _number(scored.image_probability),
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
