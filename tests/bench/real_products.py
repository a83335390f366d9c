"""Read the real products for the quality and family tables; they cannot be published with the project."""

from __future__ import annotations

import csv
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from sklearn.model_selection import StratifiedGroupKFold

from rayonnage_shared.ml.base.model import IntArray, ProductText
from rayonnage_shared.ml.catalogue.near_duplicates import connected, find_links, text_keys
from rayonnage_shared.ml.features.photos import perceptual_hash
from rayonnage_shared.ml.features.text import product_text


@dataclass(frozen=True)
class Rows:
    """Products: cleaned texts, class positions, near-duplicate groups, and photos, if the file has any."""

    texts: list[ProductText]
    classes: IntArray
    groups: IntArray
    photos: list[Path]

    def take(self, rows: np.ndarray) -> Rows:
        photos = [self.photos[i] for i in rows] if self.photos else []
        return Rows([self.texts[i] for i in rows], self.classes[rows], self.groups[rows], photos)


def read_products(folder: Path) -> tuple[Rows, Rows, tuple[int, ...]]:
    """Return the products with text, the pairs of title and photo, and the category codes of both."""
    texts, pairs = (list(csv.DictReader((folder / name).open(encoding="utf-8"))) for name in ("text.csv", "pairs.csv"))
    codes = tuple(sorted({int(row["prdtypecode"]) for row in (*texts, *pairs)}))
    return _rows(texts, codes, None), _rows(pairs, codes, folder / "images"), codes


def folds(rows: Rows, n: int, seed: int) -> IntArray:
    """Return fold numbers (n_rows,), stratified by class, near-duplicates together."""
    splitter = StratifiedGroupKFold(n, shuffle=True, random_state=seed)
    numbers = np.zeros(len(rows.texts), dtype=np.int64)
    for number, (_, test) in enumerate(splitter.split(rows.texts, rows.classes, rows.groups)):
        numbers[test] = number
    return numbers


def _rows(table: list[dict[str, str]], codes: tuple[int, ...], images: Path | None) -> Rows:
    texts = [product_text(row["designation"], row.get("description")) for row in table]
    classes = np.array([codes.index(int(row["prdtypecode"])) for row in table], dtype=np.int64)
    photos = [images / row["image"] for row in table] if images else []
    return Rows(texts, classes, _groups(texts, photos), photos)


def _groups(texts: list[ProductText], photos: list[Path]) -> IntArray:
    """Return a group number for each product; near-duplicates by text or photo have the same number."""
    hashes = [perceptual_hash(photo.read_bytes()) or 0 for photo in photos] or [0] * len(texts)
    links = find_links(text_keys(texts), np.array(hashes, dtype=np.uint64), np.ones(len(texts), dtype=bool))
    return connected(len(texts), links.left, links.right)
