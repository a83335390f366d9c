"""Labelled products in, the next dataset version out."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from rayonnage_shared.ml.base.categories import Categories
from rayonnage_shared.ml.base.model import ProductText
from rayonnage_shared.ml.catalogue.datasets import DatasetStore
from rayonnage_shared.ml.catalogue.ingestion.ingest import ingest
from rayonnage_shared.ml.catalogue.ingestion.reports import without_formula
from rayonnage_shared.ml.catalogue.products import Products
from rayonnage_shared.ml.catalogue.schemas import IngestReport
from tests.unit.shared.ml.catalogue.catalogues import HEADER, many_rows, photo, title, write_csv, write_zip

CATEGORIES = Categories((10, 40), {10: "Livres", 40: "Jeux"})


@pytest.fixture
def store(tmp_path: Path) -> DatasetStore:
    return DatasetStore(tmp_path / "data")


def take(
    store: DatasetStore,
    rows: Sequence[Sequence[object]],
    images: Path | None = None,
    header: Sequence[str] = HEADER,
    **options: Any,
) -> IngestReport:
    features = write_csv(store.data_path.parent / "features.csv", rows, header)
    return ingest(store, features, None, images, categories=CATEGORIES, **options)


def products(store: DatasetStore) -> Products:
    current = store.current()
    assert current is not None
    return store.load(current)


def test_good_rows_become_a_version_that_can_be_loaded(store: DatasetStore) -> None:
    report = take(store, many_rows(20))
    loaded = products(store)
    assert (report.rows_total, report.rows_added, report.rows_rejected) == (20, 20, 0)
    assert loaded.designations[3] == title(3)
    assert loaded.ids[3] == "1003:5003"
    assert set(loaded.splits) == {"train", "test"}
    described = store.describe(report.dataset_version or "")
    assert (described.rows, described.classes, described.parent) == (20, {"10": 20}, None)


def test_the_same_file_twice_makes_no_new_version(store: DatasetStore) -> None:
    first = take(store, many_rows(20))
    again = take(store, many_rows(20))
    assert (again.rows_added, again.rows_duplicate, again.dataset_version) == (0, 20, first.dataset_version)
    assert store.versions() == [first.dataset_version]


def test_a_second_file_grows_the_first_and_moves_nobody(store: DatasetStore) -> None:
    take(store, many_rows(50))
    before = products(store)
    report = take(store, many_rows(80, start=20))
    after = products(store)
    assert (report.rows_added, report.rows_duplicate, len(after)) == (50, 30, 100)
    assert (after.splits[:50] == before.splits).all()
    assert store.describe(report.dataset_version or "").parent == store.versions()[0]


def test_texts_that_are_there_are_not_cleaned_again(store: DatasetStore, monkeypatch: pytest.MonkeyPatch) -> None:
    take(store, many_rows(30))
    cleaned: list[str] = []

    def clean(designation: str, description: str) -> ProductText:
        cleaned.append(designation)
        return ProductText(designation, description)

    monkeypatch.setattr("rayonnage_shared.ml.catalogue.text_intake.product_text", clean)
    take(store, many_rows(32))
    assert cleaned == [title(30), title(31)]


def test_bad_rows_are_rejected_with_line_and_reason(store: DatasetStore) -> None:
    rows = [
        ("Bon", "", 1, 1, 10),
        ("", " ", 2, 2, 10),
        ("<p></p>", "", 3, 3, 10),
        ("Code inconnu", "", 4, 4, 99),
        ("Sans code", "", 5, 5, ""),
        ("Code en lettres", "", 6, 6, "livre"),
        ("x" * 20_001, "", 7, 7, 10),
        ("nul\0", "", 8, 8, 10),
        ("id trop long", "", "9" * 65, 9, 10),
    ]
    report = take(store, rows)
    assert (report.rows_added, report.rows_rejected) == (1, 8)
    reasons = {reject.line: reject.reason for reject in report.rejects}
    assert reasons == {
        3: "it has neither text nor a usable photo",
        4: "it has neither text nor a usable photo",
        5: "prdtypecode is not a known code; set allow_new_codes to add it",
        6: "prdtypecode is missing or not a whole number",
        7: "prdtypecode is missing or not a whole number",
        8: "designation is longer than 20,000 characters",
        9: "designation contains NUL characters",
        10: "productid is longer than 64 characters or not printable",
    }


def test_a_file_of_bad_rows_makes_no_version(store: DatasetStore) -> None:
    report = take(store, [("Lampe", "", 1, 1, 99)])
    assert (report.dataset_version, store.current()) == (None, None)


def test_a_file_of_rows_that_cannot_be_cut_makes_no_version(store: DatasetStore) -> None:
    report = take(store, [("Lampe", "une colonne de trop", "", 1, 1, 10)])
    assert (report.dataset_version, report.rows_rejected) == (None, 1)


def test_a_new_code_gets_in_when_allowed_and_is_known_from_then_on(store: DatasetStore) -> None:
    assert take(store, [("Lampe", "", 1, 1, 99)], allow_new_codes=True).rows_added == 1
    assert take(store, [("Vase", "", 2, 2, 99)]).rows_added == 1


def test_a_new_label_wins_and_the_conflict_is_reported(store: DatasetStore) -> None:
    take(store, [("Lampe", "", 1, 1, 10), ("Vase", "", 2, 2, 10)])
    report = take(store, [("Lampe", "", 1, 1, 40)])
    assert (report.rows_added, report.conflicts, report.conflict_rows[0].line) == (1, 1, 2)
    assert products(store).codes.tolist() == [40, 10]


def test_photos_are_stored_by_content_and_may_come_later(store: DatasetStore, tmp_path: Path) -> None:
    rows = many_rows(4)
    take(store, rows)
    before = products(store)
    images = write_zip(tmp_path / "i.zip", {f"image_{5000 + i}_product_{1000 + i}.jpg": photo(i) for i in range(3)})
    report = take(store, rows, images)
    after = products(store)
    assert (report.rows_added, report.images_added) == (3, 3)
    assert [name is not None for name in after.photos] == [True, True, True, False]
    assert store.photo_path(after.photos[0] or "").read_bytes() == photo(0)
    assert (after.splits == before.splits).all()
    assert take(store, rows, images).rows_added == 0
    assert take(store, rows).rows_added == 0, "rows without photos must not take the photos away"


def test_a_photo_named_in_the_row_is_enough_for_a_product(store: DatasetStore, tmp_path: Path) -> None:
    (tmp_path / "photos").mkdir()
    (tmp_path / "photos" / "vase.jpg").write_bytes(photo(1))
    report = take(store, [("vase.jpg", 10)], tmp_path / "photos", header=("image", "prdtypecode"))
    assert (report.rows_added, report.images_added) == (1, 1)


def test_a_bad_photo_is_listed_and_its_row_gets_in_only_with_text(store: DatasetStore, tmp_path: Path) -> None:
    names = ("image_5_product_1.jpg", "image_6_product_2.jpg", "image_7_product_3.jpg")
    images = write_zip(tmp_path / "i.zip", dict(zip(names, [b"no photo", photo(1)[:300], photo(2)], strict=True)))
    report = take(store, [("Lampe", "", 1, 5, 10), ("", "", 2, 6, 10), ("", "", 3, 7, 10)], images)
    assert (report.rows_added, report.rows_rejected, report.images_added, report.images_rejected) == (2, 1, 1, 2)
    assert [reject.line for reject in report.rejects] == [2, 3, 3]


def test_twins_by_photo_never_stand_on_both_sides(store: DatasetStore, tmp_path: Path) -> None:
    rows = many_rows(60)
    members = {f"image_{5000 + i}_product_{1000 + i}.jpg": photo(i // 2) for i in range(60)}
    take(store, rows, write_zip(tmp_path / "i.zip", members))
    loaded = products(store)
    assert (loaded.splits[0::2] == loaded.splits[1::2]).all()
    assert (loaded.groups[0::2] == loaded.groups[1::2]).all()


def test_photos_that_come_later_never_leave_twins_on_both_sides(store: DatasetStore, tmp_path: Path) -> None:
    rows = many_rows(60)
    take(store, rows)
    members = {f"image_{5000 + i}_product_{1000 + i}.jpg": photo(i // 2) for i in range(60)}
    take(store, rows, write_zip(tmp_path / "i.zip", members))
    splits = products(store).splits
    pairs = {frozenset(pair) for pair in zip(splits[0::2].tolist(), splits[1::2].tolist(), strict=True)}
    assert frozenset({"train", "test"}) not in pairs
    assert frozenset({"train", "aside"}) in pairs


def test_the_demo_and_real_products_are_never_merged(store: DatasetStore) -> None:
    demo = take(store, many_rows(5), demo=True)
    assert store.current() == demo.dataset_version
    real = take(store, many_rows(3, start=100))
    assert store.current() == real.dataset_version
    assert len(products(store)) == 3
    grown = take(store, many_rows(8), demo=True)
    assert store.current() == real.dataset_version
    assert store.describe(grown.dataset_version or "").parent == demo.dataset_version


def test_formulas_are_disarmed_in_the_reject_report(store: DatasetStore) -> None:
    report = take(store, [("=HYPERLINK(1)", "", "@1", 1, 99), ("Lampe", "", 2, 2, 10)])
    path = store.data_path / "ingests" / report.ingest_id / "rejects.csv"
    with path.open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert [(row["line"], row["kind"], row["designation"], row["productid"]) for row in rows] == [
        ("2", "row", "'=HYPERLINK(1)", "'@1")
    ]


@pytest.mark.parametrize("separator", [",", ";", "\t", "|", "\n", "\r"])
@pytest.mark.parametrize("formula", ["=cmd|' /C calc'!A0", "+1", "-1", "@SUM(1)", "\uff1dcmd", ' "=1"', "\n=1"])
def test_no_separator_makes_a_formula_of_a_cell(separator: str, formula: str) -> None:
    text = io.StringIO(newline="")
    csv.writer(text).writerow(["2", without_formula(f"Lampe{separator}{formula}"), without_formula(formula)])
    for delimiter in (",", ";", "\t", "|"):
        for line in text.getvalue().splitlines():
            for cell in line.split(delimiter):  # the most careless reader of all: it knows no quotes
                assert not cell.strip(' "\n\r\t').startswith(("=", "+", "-", "@", "\uff1d")), cell


@pytest.mark.parametrize(
    "text", ["Lampe", "T-shirt bleu", "a=b", "50+1 pièces", "jane@example.org", "l'été; hiver", ""]
)
def test_a_text_without_a_formula_stays_as_it_is(text: str) -> None:
    assert without_formula(text) == text


def test_versions_sort_by_time_within_one_second(store: DatasetStore) -> None:
    made = [take(store, many_rows(2, start=10 * i)).dataset_version for i in range(3)]
    assert store.versions() == made


def test_old_versions_can_be_pruned_but_never_the_current_ones(store: DatasetStore) -> None:
    demo = take(store, many_rows(2), demo=True).dataset_version
    real = [take(store, many_rows(2, start=10 * i)).dataset_version for i in range(1, 5)]
    gone = store.prune(keep=1, protected=[real[0] or ""])
    assert gone == real[1:3]
    assert store.versions() == [demo, real[0], real[3]]
