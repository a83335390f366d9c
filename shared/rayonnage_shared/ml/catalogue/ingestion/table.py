"""Read labelled products with line numbers: one CSV, or a features and a target CSV."""

from __future__ import annotations

import codecs
import csv
import re
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from rayonnage_shared.core.errors import BadInput
from rayonnage_shared.ml.catalogue.schemas import Reject

MAX_CELL_CHARACTERS = 1_000_000
"""A longer cell means an unclosed quote that includes the rest of the file."""

_CHUNK_BYTES = 1 << 20
_INDEX_NAMES = frozenset({"", "unnamed: 0", "index"})
_COLUMNS = ("designation", "description", "productid", "imageid", "image", "prdtypecode")
_MISSING = frozenset({"", "nan", "none", "null", "<na>"})
_WHOLE_NUMBER = re.compile(r"\+?(\d{1,19})(?:\.0*)?")
_UTF16_MARKS = (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)


class UnreadableTable(BadInput):
    code, title = "unreadable_table", "The CSV file cannot be read"


@dataclass(slots=True)
class RawProduct:
    """A row as sent; `line` is where it ends in the features file. Ids are "" where missing.

    For `given_at`, see `merging.Row`.
    """

    line: int
    designation: str
    description: str
    product_id: str
    image_id: str
    photo_name: str
    code: str
    given_at: str = ""


@dataclass(frozen=True, slots=True)
class RawTable:
    """All rows of an ingest, and those that could not be split into columns."""

    products: list[RawProduct]
    rejects: list[Reject]


def read_products(features: Path, target: Path | None, *, max_rows: int) -> RawTable:
    """Return the rows of `features`, with labels from its column `prdtypecode` or from `target` by the index column.

    UTF-8 with or without a byte-order mark, else Windows-1252; commas, semicolons or tabs. Raises UnreadableTable.
    """
    labels = None if target is None else _read_labels(target, max_rows)
    products: list[RawProduct] = []
    rejects: list[Reject] = []
    with _rows_of(features, "features", max_rows) as (header, rows):
        columns = _columns(header)
        if not columns.keys() & {"designation", "description", "image", "imageid"}:
            raise UnreadableTable(
                "The features file needs a header with `designation` or `description`; found: " + _shown(header)
            )
        if (labels is None) == ("prdtypecode" not in columns):
            raise UnreadableTable(
                "The labels are missing: send a target file, or features with a column `prdtypecode`."
                if labels is None
                else "The labels are given twice: omit the target file, or the column `prdtypecode` of the features."
            )
        index = _index_column(header) if labels is not None else None
        for line, row in rows:
            if len(row) != len(header):
                rejects.append(Reject(line=line, reason=f"{len(row)} columns, but the header has {len(header)}"))
                continue
            values = {name: row[position] for name, position in columns.items()}
            if labels is not None and index is not None:
                key = _number(row[index])
                if key not in labels:
                    rejects.append(Reject(line=line, reason=f"the target file has no row with index {key[:20]!r}"))
                    continue
                values["prdtypecode"] = labels[key]
            products.append(_product(line, values))
    if not products and not rejects:
        raise UnreadableTable("The features file has a header but no rows.")
    return RawTable(products, rejects)


def _product(line: int, values: dict[str, str]) -> RawProduct:
    return RawProduct(
        line=line,
        designation=_text(values.get("designation", "")),
        description=_text(values.get("description", "")),
        product_id=_number(values.get("productid", "")),
        image_id=_number(values.get("imageid", "")),
        photo_name=_text(values.get("image", "")).strip(),
        code=_number(values["prdtypecode"]),
    )


def _read_labels(target: Path, max_rows: int) -> dict[str, str]:
    labels: dict[str, str] = {}
    with _rows_of(target, "target", max_rows) as (header, rows):
        columns = _columns(header)
        if "prdtypecode" not in columns:
            raise UnreadableTable("The target file needs a header with `prdtypecode`; found: " + _shown(header))
        index, label = _index_column(header), columns["prdtypecode"]
        for line, row in rows:
            if len(row) != len(header):
                raise UnreadableTable(f"Line {line} of the target file has {len(row)} columns, not {len(header)}.")
            key = _number(row[index])
            if labels.setdefault(key, row[label]) != row[label]:
                raise UnreadableTable(f"Line {line} of the target file gives index {key[:20]!r} a second label.")
    return labels


def _columns(header: list[str]) -> dict[str, int]:
    names = [name.strip().lower() for name in header]
    twice = [name for name in _COLUMNS if names.count(name) > 1]
    if twice:
        raise UnreadableTable(f"The header contains `{twice[0]}` twice.")
    return {name: names.index(name) for name in _COLUMNS if name in names}


def _index_column(header: list[str]) -> int:
    for position, name in enumerate(header):
        if name.strip().lower() in _INDEX_NAMES:
            return position
    raise UnreadableTable("Features and target are joined on their unnamed first column, which one of them lacks.")


def _text(value: str) -> str:
    return "" if value.strip().lower() in _MISSING else value


def _number(value: str) -> str:
    """Return "123" for "123", " 123 " and pandas' "123.0"; other values as they are, "" for missing ones."""
    text = _text(value).strip()
    match = _WHOLE_NUMBER.fullmatch(text)
    return str(int(match[1])) if match else text


def _shown(header: list[str]) -> str:
    return ", ".join(name[:30] or "(unnamed)" for name in header[:10])


@contextmanager
def _rows_of(path: Path, name: str, max_rows: int) -> Iterator[tuple[list[str], Iterator[tuple[int, list[str]]]]]:
    """Return the header, and an iterator of (line at which the row ends, cells)."""
    encoding = _encoding(path, name)
    limit_before = csv.field_size_limit(MAX_CELL_CHARACTERS)
    try:
        with path.open(encoding=encoding, newline="") as file:
            reader = csv.reader(file, delimiter=_delimiter(file))
            header = next((row for row in reader if any(cell.strip() for cell in row)), None)
            if header is None:
                raise UnreadableTable(f"The {name} file is empty.")
            yield header, _numbered(reader, name, max_rows)
    except csv.Error as error:
        raise UnreadableTable(
            f"The {name} file is not a valid CSV near line {reader.line_num}: {error}. Is a quote unclosed?"
        ) from error
    finally:
        csv.field_size_limit(limit_before)


def _numbered(reader: Iterator[list[str]], name: str, max_rows: int) -> Iterator[tuple[int, list[str]]]:
    count = 0
    for row in reader:
        if not row or row == [""]:
            continue
        count += 1
        if count > max_rows:
            raise UnreadableTable(f"The {name} file has more than {max_rows:,} rows; send it in parts.")
        yield reader.line_num, row  # type: ignore[attr-defined]


def _delimiter(file: IO[str]) -> str:
    first = file.readline(MAX_CELL_CHARACTERS)
    file.seek(0)
    return max(",;\t", key=first.count)  # without any delimiter it is a comma: one column


def _encoding(path: Path, name: str) -> str:
    decoder = codecs.getincrementaldecoder("utf-8")()
    with path.open("rb") as file:
        start = file.read(4)
        if start.startswith(_UTF16_MARKS):
            raise UnreadableTable(f"The {name} file is UTF-16; save it as UTF-8.")
        if start.startswith(b"PK\x03\x04"):
            raise UnreadableTable(f"The {name} file is a zip or a spreadsheet; export it as CSV.")
        file.seek(0)
        try:
            while chunk := file.read(_CHUNK_BYTES):
                decoder.decode(chunk)
            decoder.decode(b"", final=True)
        except UnicodeDecodeError:
            return _windows_encoding(path, name)
    return "utf-8-sig"


def _windows_encoding(path: Path, name: str) -> str:
    with path.open("rb") as file:
        while chunk := file.read(_CHUNK_BYTES):
            try:
                chunk.decode("cp1252")
            except UnicodeDecodeError as error:
                raise UnreadableTable(
                    f"The {name} file is neither UTF-8 nor Windows-1252; save it as UTF-8."
                ) from error
    return "cp1252"
