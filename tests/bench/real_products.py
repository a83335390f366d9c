"""Read the real products for the quality and family tables; they cannot be published with the project."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from sklearn.model_selection import StratifiedGroupKFold

from rayonnage_shared.ml.base.model import ImageModel, IntArray, ModelOutput, ProductText
from rayonnage_shared.ml.base.progress import silent
from rayonnage_shared.ml.catalogue.near_duplicates import connected, find_links, text_keys
from rayonnage_shared.ml.features.photo_features import FrozenNetworkModel
from rayonnage_shared.ml.features.photos import PhotoLimits, perceptual_hash, read_photo
from rayonnage_shared.ml.features.text import product_text


@dataclass(frozen=True)
class Rows:
    """Products: cleaned texts, class positions, near-duplicate groups, photos if the file has any, and their positions
    in the file.
    """

    texts: list[ProductText]
    classes: IntArray
    groups: IntArray
    photos: list[Path]
    positions: IntArray

    def take(self, rows: np.ndarray) -> Rows:
        """Return these rows, in this order."""
        photos = [self.photos[i] for i in rows] if self.photos else []
        texts = [self.texts[i] for i in rows]
        return Rows(texts, self.classes[rows], self.groups[rows], photos, self.positions[rows])


def read_products(folder: Path) -> tuple[Rows, Rows, tuple[int, ...]]:
    """Return the products with text, the pairs of title and photo, and the category codes of both."""
    texts, pairs = (list(csv.DictReader((folder / name).open(encoding="utf-8"))) for name in ("text.csv", "pairs.csv"))
    codes = tuple(sorted({int(row["prdtypecode"]) for row in (*texts, *pairs)}))
    return _rows(texts, codes, None), _rows(pairs, codes, folder / "images"), codes


def kept_back(
    texts: list[dict[str, str]], pairs: list[dict[str, str]], images: Path, n: int
) -> tuple[list[bool], list[bool]]:
    """Choose about `n` pairs to keep back from a training, whatever their near-duplicates.

    Return for each pair whether it is kept back, and for each product of text.csv whether it is a near-duplicate of
    one that is.
    """
    of_pairs = _rows(pairs, tuple(sorted({int(row["prdtypecode"]) for row in pairs})), images)
    is_unseen = folds(of_pairs, round(len(pairs) / n), 0) == 0
    products = [product_text(row["designation"], row.get("description")) for row in (*texts, *pairs)]
    groups = _groups(products, [])
    near = set(groups[len(texts) :][is_unseen].tolist())
    return [bool(one) for one in is_unseen], [int(group) in near for group in groups[: len(texts)]]


def folds(rows: Rows, n: int, seed: int) -> IntArray:
    """Return fold numbers (n_rows,), stratified by class, near-duplicates together."""
    splitter = StratifiedGroupKFold(n, shuffle=True, random_state=seed)
    numbers = np.zeros(len(rows.texts), dtype=np.int64)
    for number, (_, test) in enumerate(splitter.split(rows.texts, rows.classes, rows.groups)):
        numbers[test] = number
    return numbers


def taken(output: ModelOutput, rows: IntArray) -> ModelOutput:
    """Return the output of these rows."""
    return ModelOutput(output.probabilities[rows], output.features[rows])


def photo_output(model: ImageModel, photos: Sequence[Path], cache: Path) -> ModelOutput:
    """Return a model's output for photos; `cache` keeps the features of a frozen network."""
    if isinstance(model, FrozenNetworkModel):
        return model.output_of(model.photo_features.embed_files(list(photos), silent, cache))
    limits = PhotoLimits()
    found = [model.output(read_photo(photo.read_bytes(), model.input_size, limits)[None]) for photo in photos]
    return ModelOutput(*(np.concatenate(parts) for parts in zip(*found, strict=True)))


def _rows(table: list[dict[str, str]], codes: tuple[int, ...], images: Path | None) -> Rows:
    texts = [product_text(row["designation"], row.get("description")) for row in table]
    classes = np.array([codes.index(int(row["prdtypecode"])) for row in table], dtype=np.int64)
    photos = [images / row["image"] for row in table] if images else []
    return Rows(texts, classes, _groups(texts, photos), photos, np.arange(len(texts)))


def _groups(texts: list[ProductText], photos: list[Path]) -> IntArray:
    """Return a group number for each product; near-duplicates by text or photo have the same number."""
    hashes = [perceptual_hash(photo.read_bytes()) or 0 for photo in photos] or [0] * len(texts)
    links = find_links(text_keys(texts), np.array(hashes, dtype=np.uint64), np.ones(len(texts), dtype=bool))
    return connected(len(texts), links.left, links.right)
