"""Merge new labelled rows with stored ones: which are new, which change a product, which change nothing.

A product is identified by its ids, or without ids by its content: cleaned text and photo, or text alone without a
photo. Two rows with different ids are two products whatever they contain; their near-duplicate group keeps
them on one side of the split.
The newest row wins; a label that changes is a conflict and is listed. Feedback given before the stored row was
ingested changes nothing.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from rayonnage_shared.ml.catalogue.schemas import Reject

CONTENT_ID_PREFIX = "content-"


@dataclass(frozen=True, slots=True)
class Row:
    """A valid row. `text_hash` is the hash of its cleaned text, "" without any; `photo` its sha256 or None."""

    line: int
    designation: str
    description: str
    product_id: str
    image_id: str
    code: int
    text_hash: str
    photo: str | None
    source: int
    """Index among the rows of this ingest."""
    given_at: str = ""
    """When the feedback was given, as the time part of a ULID; "" for now."""

    @property
    def ids(self) -> str | None:
        return f"{self.product_id}:{self.image_id}" if self.product_id or self.image_id else None

    @property
    def content_id(self) -> str:
        content = f"{self.text_hash}\n{self.photo or ''}".encode()
        return CONTENT_ID_PREFIX + hashlib.blake2b(content, digest_size=16).hexdigest()


@dataclass(frozen=True, slots=True)
class Stored:
    """The columns of the previous version that merging needs, (n,) each.

    `ingest_ids` are ULIDs, of the last change of each row; needed only if rows have `given_at`.
    """

    ids: Sequence[str]
    text_hashes: Sequence[str]
    photos: Sequence[str | None]
    codes: Sequence[int]
    ingest_ids: Sequence[str] = ()


@dataclass(slots=True)
class Merged:
    """`updates` hold the final state of stored positions that changed; `n_taken` counts new and changed products."""

    new: list[tuple[str, Row]] = field(default_factory=list)
    updates: dict[int, Row] = field(default_factory=dict)
    conflicts: list[Reject] = field(default_factory=list)

    @property
    def n_taken(self) -> int:
        return len(self.new) + len(self.updates)


def merge(stored: Stored, rows: Sequence[Row]) -> Merged:
    """Merge `rows`, in order, into `stored`. Idempotent."""
    return _Merger(stored).run(rows)


class _Merger:
    """Positions below len(stored) are stored products, the others are new."""

    def __init__(self, stored: Stored) -> None:
        self._stored = stored
        self._n = len(stored.ids)
        self._new: list[tuple[str, Row]] = []
        self._touched: dict[int, Row] = {}
        self._labels: dict[int, list[int]] = {}
        self._by_id = {name: position for position, name in enumerate(stored.ids)}
        self._by_content: dict[tuple[str, str | None], int] = {}
        self._by_text: dict[str, int] = {}
        for position, (text_hash, photo) in enumerate(zip(stored.text_hashes, stored.photos, strict=True)):
            self._index(position, text_hash, photo)

    def run(self, rows: Sequence[Row]) -> Merged:
        for row in rows:
            position = self._find(row)
            if position is None:
                self._add(row)
            elif not self._is_stale(position, row):
                self._change(position, row)
        merged = Merged(new=self._new)
        for position, row in self._touched.items():
            if position < self._n and self._state(row) != self._stored_state(position):
                merged.updates[position] = row
        merged.conflicts = [self._conflict(position) for position, seen in self._labels.items() if len(set(seen)) > 1]
        return merged

    def _find(self, row: Row) -> int | None:
        if row.ids is not None:
            known = self._by_id.get(row.ids)
            return known if known is not None else self._without_ids(row.text_hash, row.photo)
        same = self._by_content.get((row.text_hash, row.photo))
        if same is not None:
            return same
        if row.photo is None:
            return self._by_text.get(row.text_hash)
        # The same row was sent without its photo before.
        return self._without_ids(row.text_hash, None) if row.text_hash else None

    def _is_stale(self, position: int, row: Row) -> bool:
        """Return whether the stored row was ingested after this feedback was given."""
        return position < self._n and "" < row.given_at < self._stored.ingest_ids[position][: len(row.given_at)]

    def _without_ids(self, text_hash: str, photo: str | None) -> int | None:
        position = self._by_content.get((text_hash, photo))
        return position if position is not None and self._id(position).startswith(CONTENT_ID_PREFIX) else None

    def _id(self, position: int) -> str:
        return self._stored.ids[position] if position < self._n else self._new[position - self._n][0]

    def _add(self, row: Row) -> None:
        position = self._n + len(self._new)
        name = row.ids or row.content_id
        self._new.append((name, row))
        self._by_id[name] = position
        self._index(position, row.text_hash, row.photo)
        self._touched[position] = row
        self._labels[position] = [row.code]

    def _change(self, position: int, row: Row) -> None:
        text_hash, photo, code = self._current(position)
        final = row if row.photo is not None or photo is None else replace(row, photo=photo)
        self._labels.setdefault(position, [code]).append(row.code)
        if (text_hash, photo) != (final.text_hash, final.photo):
            if self._by_content.get((text_hash, photo)) == position:
                del self._by_content[text_hash, photo]
            self._index(position, final.text_hash, final.photo)
        self._touched[position] = final
        if position >= self._n:
            self._new[position - self._n] = (self._id(position), final)

    def _index(self, position: int, text_hash: str, photo: str | None) -> None:
        self._by_content.setdefault((text_hash, photo), position)
        if text_hash:
            self._by_text.setdefault(text_hash, position)

    def _current(self, position: int) -> tuple[str, str | None, int]:
        touched = self._touched.get(position)
        return self._stored_state(position) if touched is None else self._state(touched)

    def _stored_state(self, position: int) -> tuple[str, str | None, int]:
        stored = self._stored
        return stored.text_hashes[position], stored.photos[position], stored.codes[position]

    @staticmethod
    def _state(row: Row) -> tuple[str, str | None, int]:
        return row.text_hash, row.photo, row.code

    def _conflict(self, position: int) -> Reject:
        row = self._touched[position]
        others = ", ".join(str(code) for code in dict.fromkeys(self._labels[position]) if code != row.code)
        name = row.ids or "its content"
        return Reject(line=row.line, reason=f"{name} is also labelled {others}; {row.code}, the newest, was kept")
