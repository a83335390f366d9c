"""Split the raw products into a first training file and the rest, which arrives later."""

from __future__ import annotations

import csv
import io
import math
import random
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from rayonnage_shared.core.files import write_atomically
from rayonnage_shared.ml.catalogue.ingestion.table import RawProduct
from rayonnage_shared.pipelines.data.raw_files import find_raw_files, read_raw

SEED_NAME = "rakuten_train.csv"
REST_NAME = "rakuten_rest.csv"
COLUMNS = ("designation", "description", "productid", "imageid", "image", "prdtypecode")


@dataclass(frozen=True, slots=True)
class Seeded:
    """The files that were written, and their numbers of rows."""

    first: Path
    rest: Path
    first_rows: int
    rest_rows: int


def seed(raw: Path, interim: Path, *, share: float = 1.0, random_seed: int = 20) -> Seeded:
    """Write `share` of the raw products of each category to rakuten_train.csv and the others to rakuten_rest.csv.

    Of each category at least one product is in the first file. The same seed gives the same files. Raises
    UnreadableTable.
    """
    products = read_raw(find_raw_files(raw)).products
    by_code: dict[str, list[int]] = defaultdict(list)
    for position, one in enumerate(products):
        by_code[one.code].append(position)
    chance = random.Random(random_seed)  # noqa: S311 - a repeatable sample
    chosen: set[int] = set()
    for code in sorted(by_code):
        chosen.update(chance.sample(by_code[code], max(1, math.floor(share * len(by_code[code])))))
    interim.mkdir(parents=True, exist_ok=True)
    first = [one for position, one in enumerate(products) if position in chosen]
    rest = [one for position, one in enumerate(products) if position not in chosen]
    # The rest first: whoever sees the first file sees the rest that belongs to it.
    _write(interim / REST_NAME, rest)
    _write(interim / SEED_NAME, first)
    return Seeded(interim / SEED_NAME, interim / REST_NAME, len(first), len(rest))


def _write(path: Path, products: Iterable[RawProduct]) -> None:
    text = io.StringIO(newline="")
    writer = csv.writer(text)
    writer.writerow(COLUMNS)
    for one in products:
        writer.writerow((one.designation, one.description, one.product_id, one.image_id, one.photo_name, one.code))
    write_atomically(path, text.getvalue().encode())
