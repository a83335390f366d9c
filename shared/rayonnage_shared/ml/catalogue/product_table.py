"""The columns of `products.parquet`: those of `Products`, and those that later ingests compare with."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from rayonnage_shared.ml.base.model import IntArray
from rayonnage_shared.ml.catalogue.datasets import DatasetStore
from rayonnage_shared.ml.catalogue.merging import Merged, Row, Stored
from rayonnage_shared.ml.catalogue.near_duplicates import Keys, TextKeys
from rayonnage_shared.ml.catalogue.splits import Placement
from rayonnage_shared.ml.catalogue.text_intake import KnownTexts

SCHEMA = pa.schema(
    [
        ("id", pa.string()),
        ("productid", pa.string()),
        ("imageid", pa.string()),
        ("designation", pa.large_string()),
        ("description", pa.large_string()),
        ("prdtypecode", pa.int64()),
        ("photo", pa.string()),
        ("split", pa.string()),
        ("fold", pa.int8()),
        ("group", pa.int64()),
        ("text_hash", pa.string()),
        ("photo_hash", pa.uint64()),
        ("text_key", pa.uint64()),
        ("title_key", pa.uint64()),
        ("words", pa.large_list(pa.uint32())),
        ("ingest_id", pa.string()),
    ]
)


@dataclass(frozen=True, slots=True)
class RowDetails:
    """Values computed for new rows; perceptual hashes are 0 for none."""

    keys: TextKeys
    photo_hashes: Sequence[int]
    ingest_id: str


class ProductTable:
    """All rows of a version, by column; never changed in place."""

    def __init__(self, arrow: pa.Table) -> None:
        self.arrow = arrow

    @classmethod
    def read(cls, store: DatasetStore, version: str | None) -> ProductTable:
        """Return the rows of `version`; none for None."""
        if version is None:
            return cls(SCHEMA.empty_table())
        return cls(store.read_table(version).cast(SCHEMA))

    def __len__(self) -> int:
        return int(self.arrow.num_rows)

    @property
    def ids(self) -> list[str]:
        return self._list("id")

    @property
    def codes(self) -> IntArray:
        return self._numbers("prdtypecode")

    def known_photos(self) -> dict[str, int | None]:
        """Return the perceptual hash of each photo by its sha256; None for a blank photo."""
        pairs = zip(self._list("photo"), self._list("photo_hash"), strict=True)
        return {sha256: seen or None for sha256, seen in pairs if sha256 is not None}

    def known_texts(self) -> KnownTexts:
        """Return the texts of all rows as sent, with the values computed for them."""
        sent = zip(self._list("designation"), self._list("description"), strict=True)
        return KnownTexts({text: row for row, text in enumerate(sent)}, self._list("text_hash"), self.text_keys())

    def for_merging(self) -> Stored:
        """Return the columns that new rows are compared with."""
        return Stored(
            self.ids,
            self._list("text_hash"),
            self._list("photo"),
            self._list("prdtypecode"),
            self._list("ingest_id"),
        )

    def text_keys(self) -> TextKeys:
        """Return the keys of all texts."""
        words = self.arrow["words"].combine_chunks()
        values, offsets = words.values.to_numpy(), words.offsets.to_numpy()
        return TextKeys(
            texts=self.arrow["text_key"].to_numpy(),
            titles=self.arrow["title_key"].to_numpy(),
            words=[values[start:end] for start, end in pairwise(offsets.tolist())],
        )

    def photo_hashes(self) -> Keys:
        """Return the perceptual hashes (n,), 0 for none."""
        hashes: Keys = self.arrow["photo_hash"].to_numpy()
        return hashes

    def placement(self) -> Placement:
        """Return the splits, folds and groups of all rows."""
        splits = np.array(self._list("split"), dtype="<U5")
        return Placement(splits, self._numbers("fold"), self._numbers("group"))

    def placed(self, placement: Placement) -> ProductTable:
        """Return the same rows with their splits, folds and groups."""
        table = self.arrow
        for name, values in (("split", placement.splits), ("fold", placement.folds), ("group", placement.groups)):
            field = SCHEMA.field(name)
            table = table.set_column(SCHEMA.get_field_index(name), field, pa.array(values.tolist(), field.type))
        return ProductTable(table)

    def merged(self, merged: Merged, details: RowDetails) -> tuple[ProductTable, NDArray[np.bool_]]:
        """Return the rows with updates applied and new ones appended, and a mask (n,) of rows with a new text or photo.

        `details` has the updates in their order, then the new rows.
        """
        n, n_updates = len(self), len(merged.updates)
        before = self._at(merged.updates)
        positions = np.fromiter(merged.updates, dtype=np.int64, count=n_updates)
        names = before["id"].to_pylist() + [name for name, _ in merged.new]
        rows = [*merged.updates.values(), *(row for _, row in merged.new)]
        came = _came(names, rows, details, before)
        order = np.arange(n + len(merged.new), dtype=np.int64)
        order[n:] += n_updates
        order[positions] = n + np.arange(n_updates)
        changed = np.zeros(n + len(merged.new), dtype=np.bool_)
        changed[n:] = True
        contents = zip(before["text_hash"].to_pylist(), before["photo"].to_pylist(), rows[:n_updates], strict=True)
        changed[positions] = [(text, photo) != (row.text_hash, row.photo) for text, photo, row in contents]
        return ProductTable(pa.concat_tables([self.arrow, came]).take(order)), changed

    def _at(self, updates: Mapping[int, Row]) -> pa.Table:
        return self.arrow.take(pa.array(list(updates), pa.int64()))

    def _list(self, column: str) -> list[Any]:
        values: list[Any] = self.arrow[column].to_pylist()
        return values

    def _numbers(self, column: str) -> IntArray:
        numbers: IntArray = self.arrow[column].to_numpy().astype(np.int64)
        return numbers


def _came(names: list[str], rows: list[Row], details: RowDetails, before: pa.Table) -> pa.Table:
    """Return the new rows as a table; updates keep the ids and placement of `before`."""
    n_new = len(rows) - before.num_rows
    lengths = [len(words) for words in details.keys.words]
    offsets = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int64)
    values = np.concatenate([*details.keys.words, np.zeros(0, dtype=np.uint32)])
    new_rows = rows[before.num_rows :]
    columns = {
        "id": names,
        "productid": before["productid"].to_pylist() + [row.product_id for row in new_rows],
        "imageid": before["imageid"].to_pylist() + [row.image_id for row in new_rows],
        "designation": [row.designation for row in rows],
        "description": [row.description for row in rows],
        "prdtypecode": [row.code for row in rows],
        "photo": [row.photo for row in rows],
        "split": before["split"].to_pylist() + [""] * n_new,
        "fold": before["fold"].to_pylist() + [0] * n_new,
        "group": before["group"].to_pylist() + [-1] * n_new,
        "text_hash": [row.text_hash for row in rows],
        "photo_hash": pa.array(list(details.photo_hashes), pa.uint64()),
        "text_key": pa.array(details.keys.texts),
        "title_key": pa.array(details.keys.titles),
        "words": pa.LargeListArray.from_arrays(pa.array(offsets), pa.array(values, pa.uint32())),
        "ingest_id": [details.ingest_id] * len(rows),
    }
    return pa.table(columns, schema=SCHEMA)
