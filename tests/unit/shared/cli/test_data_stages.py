"""`rayonnage data`: each stage leaves its artefact, and `build` runs them all."""

from __future__ import annotations

import csv
import json
import shutil
from collections import Counter
from collections.abc import Iterator
from http.server import SimpleHTTPRequestHandler
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import typer
from typer.testing import CliRunner, Result

from rayonnage_shared.cli import data_stages
from rayonnage_shared.ml.catalogue.datasets import DatasetNotFound, DatasetStore
from rayonnage_shared.ml.catalogue.ingestion.table import UnreadableTable
from rayonnage_shared.ml.features.text import clean
from rayonnage_shared.ml.features.tfidf import Tfidf
from tests.http_server import serving
from tests.sample import write_first_rows
from tests.unit.shared.ml.catalogue.catalogues import write_csv, write_zip

ROWS = 120
HEADER = ("designation", "productid", "imageid", "prdtypecode")


@pytest.fixture(scope="module")
def raw_files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A part of the sample catalogue, under the names of the Rakuten files."""
    folder = write_first_rows(tmp_path_factory.mktemp("raw-files"), ROWS)
    (folder / "features.csv").rename(folder / "X_train_update.csv")
    (folder / "target.csv").rename(folder / "Y_train_CVw08PX.csv")
    return folder


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder in which the command line runs."""
    monkeypatch.chdir(tmp_path)
    for name in ("MLFLOW_TRACKING_URI", "DVC_REMOTE_URL"):
        monkeypatch.setenv(name, "")
    monkeypatch.setenv("DATABASE_URL", f"sqlite:///{tmp_path}/rayonnage.db")
    return tmp_path


def rayonnage(*arguments: str) -> Result:
    app = typer.Typer()
    data_stages.register(app)
    result = CliRunner().invoke(app, ["data", *arguments])
    if result.exception is not None and not isinstance(result.exception, SystemExit):
        raise result.exception
    return result


def rows_of(path: Path) -> list[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


@pytest.fixture(scope="module")
def server(raw_files: Path) -> Iterator[str]:
    class Files(SimpleHTTPRequestHandler):
        def __init__(self, *arguments: Any) -> None:
            super().__init__(*arguments, directory=str(raw_files))

    with serving(Files) as url:
        yield url


def test_build_downloads_checks_seeds_preprocesses_and_transforms(
    home: Path, server: str, raw_files: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DATASET_PRIVATE_ADDRESSES", "true")
    names = ("X_train_update.csv", "Y_train_CVw08PX.csv", "images.zip")

    result = rayonnage("build", " ".join(f"{server}/{name}" for name in names), "--share", "0.8")

    assert result.exit_code == 0, result.output
    for name in names:
        assert (home / "data" / "raw" / name).read_bytes() == (raw_files / name).read_bytes()
    report = json.loads((home / "data" / "interim" / "check.json").read_text())
    assert (report["rows"], report["rows_unreadable"], report["problems"]) == (ROWS, 0, [])
    assert report["rows_with_photo"] > 20
    first = rows_of(home / "data" / "interim" / "rakuten_train.csv")
    rest = rows_of(home / "data" / "interim" / "rakuten_rest.csv")
    assert len(first) + len(rest) == ROWS and len(first) > len(rest) > 0
    version = DatasetStore(home / "data").current()
    assert version is not None
    assert len(DatasetStore(home / "data").load(version)) <= len(first)
    assert not DatasetStore(home / "data").describe(version).demo
    assert str(Path("data") / "processed" / version) in result.output


def test_transform_writes_what_training_sees(home: Path, raw_files: Path) -> None:
    shutil.copytree(raw_files, home / "data" / "raw")
    assert rayonnage("build").exit_code == 0
    store = DatasetStore(home / "data")
    version = store.current()
    assert version is not None
    folder = home / "data" / "processed" / version
    tfidf = Tfidf.load(folder)
    products = store.load(version)
    for split in ("train", "test"):
        rows = rows_of(folder / f"{split}.csv")
        part = products.take(products.splits == split)
        assert [row["product_id"] for row in rows] == part.ids
        assert [int(row["prdtypecode"]) for row in rows] == part.codes.tolist()
        assert [row["title"] for row in rows] == [clean(one) for one in part.designations]
        with np.load(folder / f"{split}.npz") as matrix:
            assert matrix["shape"].tolist() == [len(rows), tfidf.size]
            bounds = matrix["indptr"].tolist()
            for row in range(min(5, len(rows))):
                terms, values = tfidf.vector(f"{rows[row]['title']} {rows[row]['description']}".strip())
                cells = slice(bounds[row], bounds[row + 1])
                stored = dict(zip(matrix["indices"][cells], matrix["data"][cells], strict=True))
                expected = {term: value for term, value in zip(terms.tolist(), values.tolist(), strict=True) if value}
                found = {int(term): float(value) for term, value in stored.items() if value}
                assert found.keys() == expected.keys()
                assert all(abs(found[term] - expected[term]) < 1e-5 for term in found)

    written = (folder / "train.csv").stat().st_mtime_ns
    assert rayonnage("transform", version).exit_code == 0
    assert (folder / "train.csv").stat().st_mtime_ns == written
    assert sorted(path.name for path in folder.parent.iterdir()) == [version]


def test_the_seed_has_the_share_of_each_category_and_is_repeatable(home: Path, raw_files: Path) -> None:
    shutil.copytree(raw_files, home / "data" / "raw")
    path = home / "data" / "interim" / "rakuten_train.csv"
    assert rayonnage("seed", "--share", "0.5").exit_code == 0
    once = path.read_bytes()
    assert rayonnage("seed", "--share", "0.5").exit_code == 0
    assert path.read_bytes() == once
    first = Counter(row["prdtypecode"] for row in rows_of(path))
    rest = Counter(row["prdtypecode"] for row in rows_of(path.with_name("rakuten_rest.csv")))
    for code in first | rest:
        assert first[code] == max(1, (first[code] + rest[code]) // 2), code
    assert rayonnage("seed", "--share", "0.5", "--random-seed", "21").exit_code == 0
    assert path.read_bytes() != once


@pytest.mark.parametrize(
    ("files", "problem"),
    [
        ({}, "There is no features file"),
        ({"features.csv": (["titre"], [["Piscine"]])}, "needs a header"),
        ({"features.csv": (["designation"], [["Piscine"]])}, "labels are missing"),
        ({"features.csv": (["designation", "prdtypecode"], [])}, "has a header but no rows"),
    ],
)
def test_check_says_what_is_wrong_with_the_raw_files(
    home: Path, files: dict[str, tuple[list[str], list[list[str]]]], problem: str
) -> None:
    raw = home / "data" / "raw"
    raw.mkdir(parents=True)
    for name, (header, rows) in files.items():
        write_csv(raw / name, rows, header)
    result = rayonnage("check")
    assert result.exit_code == 1
    report = json.loads((home / "data" / "interim" / "check.json").read_text())
    assert any(problem in one for one in report["problems"]), report


def test_check_counts_photos_and_names_a_zip_of_others(home: Path) -> None:
    raw = home / "data" / "raw"
    raw.mkdir(parents=True)
    write_csv(raw / "features.csv", [["Piscine", 1, 2, 2583], ["Lampe", 3, 4, 10]], HEADER)
    write_zip(raw / "images.zip", {"image_2_product_1.jpg": b"x"})
    assert rayonnage("check").exit_code == 0
    report = json.loads((home / "data" / "interim" / "check.json").read_text())
    assert (report["rows_with_photo"], report["rows_without_photo"]) == (1, 1)
    assert report["classes"] == {"10": 1, "2583": 1}

    write_zip(raw / "images.zip", {"holiday.jpg": b"x"})
    assert rayonnage("check").exit_code == 1


def test_a_stage_without_the_one_before_it_says_so(home: Path) -> None:
    with pytest.raises(UnreadableTable, match="rayonnage data seed"):
        rayonnage("preprocess")
    with pytest.raises(DatasetNotFound, match="rayonnage data preprocess"):
        rayonnage("transform")
