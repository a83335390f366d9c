"""The generated catalogue."""

from __future__ import annotations

import csv
import random
import zipfile
from collections import Counter
from pathlib import Path

import pytest
from PIL import Image

from rayonnage_shared.ml.base.categories import load_categories
from rayonnage_shared.ml.catalogue.sample.generator import generate_sample, load_vocabularies
from rayonnage_shared.ml.catalogue.sample.photos import draw_photo

SAMPLE = Path(__file__).parents[6] / "data" / "sample"
MAX_BYTES = 4_500_000


def rows(name: str) -> list[dict[str, str]]:
    with (SAMPLE / name).open(newline="", encoding="utf-8") as file:
        return list(csv.DictReader(file))


def test_the_committed_sample_has_the_habits_of_real_data() -> None:
    features, target = rows("features.csv"), rows("target.csv")
    counts = Counter(int(row["prdtypecode"]) for row in target)
    assert tuple(sorted(counts)) == load_categories().codes
    assert 5 < max(counts.values()) / min(counts.values()) < 14
    missing = sum(not row["description"] for row in features) / len(features)
    assert 0.25 < missing < 0.45
    assert any("<p>" in row["description"] for row in features)
    assert any("Ã©" in row["designation"] for row in features)
    assert sum(path.stat().st_size for path in SAMPLE.iterdir()) < MAX_BYTES


def test_every_committed_photo_belongs_to_a_product() -> None:
    wanted = {f"image_{row['imageid']}_product_{row['productid']}.jpg" for row in rows("features.csv")}
    with zipfile.ZipFile(SAMPLE / "images.zip") as archive:
        names = set(archive.namelist())
        with archive.open(sorted(names)[0]) as file:
            assert Image.open(file).size == (500, 500)
    assert len(names) > 400
    assert names <= wanted


def test_the_same_seed_draws_the_same_photo() -> None:
    style = load_vocabularies()[2583].style
    assert draw_photo(style, random.Random(1)) == draw_photo(style, random.Random(1))
    assert draw_photo(style, random.Random(1)) != draw_photo(style, random.Random(2))


def test_the_generator_still_gives_the_committed_texts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def undrawn(style: object, chance: random.Random) -> bytes:
        del style, chance
        return b"photo"

    monkeypatch.setattr("rayonnage_shared.ml.catalogue.sample.generator.draw_photo", undrawn)
    generate_sample(tmp_path, seed=20)
    with (tmp_path / "features.csv").open(newline="", encoding="utf-8") as file:
        assert len(list(csv.DictReader(file))) == len(rows("features.csv"))
