"""Write a dataset version as training sees it: cleaned texts by split, and their TF-IDF features."""

from __future__ import annotations

import csv
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from rayonnage_shared.core.files import sync_to_disk
from rayonnage_shared.ml.base.model import ProductText
from rayonnage_shared.ml.base.progress import Progress, silent
from rayonnage_shared.ml.catalogue.datasets import DatasetStore
from rayonnage_shared.ml.catalogue.ingestion.reports import without_formula
from rayonnage_shared.ml.catalogue.products import TEST, TRAIN, Products

COLUMNS = ("product_id", "prdtypecode", "title", "description", "photo", "fold", "group")
MIN_ROWS = 2
MAX_TERMS = 300_000
_BUILDING = ".building-"


def transform(store: DatasetStore, version: str, progress: Progress = silent) -> Path:
    """Write `data/processed/<version>` and return it; an existing one is returned unchanged.

    It holds train.csv and test.csv with cleaned texts, words.npz and characters.npz (the terms and their idf, fitted
    on the training split), and train.npz and test.npz: sparse rows (data, indices, indptr, shape) of both blocks side
    by side, in the order of the CSV. The folder appears complete or not at all. Raises DatasetNotFound.
    """
    final = store.processed_folder(version)
    if final.is_dir():
        return final
    products = store.load(version)
    building = final.with_name(f"{_BUILDING}{version}")
    shutil.rmtree(building, ignore_errors=True)
    building.mkdir(parents=True)
    progress(0.1, "cleaning")
    parts = {split: products.take(products.splits == split) for split in (TRAIN, TEST)}
    texts = {split: part.texts() for split, part in parts.items()}
    for split, part in parts.items():
        _write_table(building / f"{split}.csv", part, texts[split])
    progress(0.5, "TF-IDF")
    _write_features(building, texts[TRAIN], texts[TEST])
    sync_to_disk(building)
    building.rename(final)
    progress(1.0, version)
    return final


def _write_table(path: Path, products: Products, texts: Sequence[ProductText]) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(COLUMNS)
        for row, (title, description) in enumerate(texts):
            writer.writerow(
                (
                    without_formula(products.ids[row]),
                    int(products.codes[row]),
                    without_formula(title),
                    without_formula(description),
                    products.photos[row] or "",
                    int(products.folds[row]),
                    int(products.groups[row]),
                )
            )


def _write_features(folder: Path, train: Sequence[ProductText], test: Sequence[ProductText]) -> None:
    from scipy import sparse

    from rayonnage_shared.ml.features.term_counts import TermCounts

    joined = [f"{title} {description}".strip() for title, description in (*train, *test)]
    counts = TermCounts.of(joined, min_rows=MIN_ROWS, max_terms=MAX_TERMS)
    tfidf, blocks = counts.weighted(np.arange(len(train)))
    tfidf.save(folder)
    matrix: Any = sparse.hstack(blocks, format="csr")
    for split, rows in ((TRAIN, slice(0, len(train))), (TEST, slice(len(train), None))):
        part = matrix[rows]
        np.savez_compressed(
            folder / f"{split}.npz", data=part.data, indices=part.indices, indptr=part.indptr, shape=part.shape
        )
