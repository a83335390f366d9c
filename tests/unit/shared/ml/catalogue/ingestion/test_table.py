"""Reading labelled products from CSV files."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest

from rayonnage_shared.ml.catalogue.ingestion.table import RawTable, UnreadableTable, read_products


def read(folder: Path, features: str | bytes, target: str | None = None, max_rows: int = 100) -> RawTable:
    path = folder / "features.csv"
    path.write_bytes(features.encode() if isinstance(features, str) else features)
    labels = None
    if target is not None:
        labels = folder / "target.csv"
        labels.write_text(target, encoding="utf-8")
    return read_products(path, labels, max_rows=max_rows)


def test_features_and_target_are_joined_on_the_unnamed_index(tmp_path: Path) -> None:
    table = read(
        tmp_path,
        ",designation,description,productid,imageid\n7,Lampe,,12,34\n9,Vase,Bleu,,\n",
        ",prdtypecode\n9,2060\n7,1560\n",
    )
    assert [(row.designation, row.code) for row in table.products] == [("Lampe", "1560"), ("Vase", "2060")]


def test_a_row_without_a_label_in_the_target_is_rejected_with_its_line(tmp_path: Path) -> None:
    table = read(tmp_path, ",designation\n1,Lampe\n2,Vase\n", ",prdtypecode\n1,10\n")
    assert [(reject.line, "index '2'" in reject.reason) for reject in table.rejects] == [(3, True)]


def test_the_line_of_a_row_is_where_it_ends(tmp_path: Path) -> None:
    table = read(tmp_path, 'designation,prdtypecode\n"deux\nlignes",10\nune,10\n')
    assert [row.line for row in table.products] == [3, 4]


def test_ids_may_be_floats_or_missing(tmp_path: Path) -> None:
    table = read(tmp_path, "designation,productid,imageid,prdtypecode\na,123.0,,10.0\nb,nan, 7 ,40\n")
    assert [(row.product_id, row.image_id, row.code) for row in table.products] == [("123", "", "10"), ("", "7", "40")]


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "cp1252"])
def test_files_in_utf_8_and_windows_1252_are_read(tmp_path: Path, encoding: str) -> None:
    table = read(tmp_path, "designation,prdtypecode\nÉtagère à cœur,10\n".encode(encoding))
    assert table.products[0].designation == "Étagère à cœur"


@pytest.mark.parametrize("delimiter", [",", ";", "\t"])
def test_the_delimiter_is_found_in_the_header(tmp_path: Path, delimiter: str) -> None:
    table = read(tmp_path, f"designation{delimiter}prdtypecode\nLampe{delimiter}10\n")
    assert table.products[0].code == "10"


def test_unknown_columns_are_ignored_and_names_may_be_capitals(tmp_path: Path) -> None:
    table = read(tmp_path, "raw,Designation,votes,PRDTYPECODE\n1,Lampe,15/15,10\n")
    assert table.products[0].designation == "Lampe"


def test_a_row_of_another_width_is_rejected_and_the_rest_kept(tmp_path: Path) -> None:
    table = read(tmp_path, "designation,prdtypecode\na,b,10\nLampe,10\n")
    assert (table.rejects[0].line, len(table.products)) == (2, 1)


@pytest.mark.parametrize(
    ("features", "target", "words"),
    [
        ("", None, "is empty"),
        ("\n\n  \n", None, "is empty"),
        ("designation,prdtypecode\n", None, "no rows"),
        ("1,Lampe\n2,Vase\n", None, "needs a header"),
        ("designation\nLampe\n", None, "labels are missing"),
        ("designation,prdtypecode\na,10\n", ",prdtypecode\n1,10\n", "labels are given twice"),
        ("designation\na\n", ",prdtypecode\n1,10\n", "lacks"),
        (",designation\n1,a\n", "prdtypecode\n10\n", "lacks"),
        (",designation\n1,a\n", ",prdtypecode\n1,10\n1,40\n", "second label"),
        ("designation,designation,prdtypecode\na,b,10\n", None, "twice"),
        ("designation,prdtypecode\n" + "a,10\n" * 101, None, "more than 100 rows"),
        ('designation,prdtypecode\n"' + "x" * 1_100_000, None, "quote unclosed"),
        (b"\xff\xfed\x00e\x00", None, "UTF-16"),
        (b"PK\x03\x04rest", None, "spreadsheet"),
        (b"designation,prdtypecode\n\x81\x8d,10\n", None, "neither UTF-8"),
    ],
)
def test_a_file_that_cannot_be_used_is_refused_in_words(
    tmp_path: Path, features: str | bytes, target: str | None, words: str
) -> None:
    with pytest.raises(UnreadableTable, match=words):
        read(tmp_path, features, target)


def test_reading_leaves_the_field_limit_of_csv_as_it_was(tmp_path: Path) -> None:
    before = csv.field_size_limit()
    read(tmp_path, "designation,prdtypecode\nLampe,10\n")
    assert csv.field_size_limit() == before
