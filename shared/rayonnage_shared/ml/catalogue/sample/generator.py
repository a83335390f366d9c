"""The generated catalogue for demo and tests: French titles, drawn photos and the typical faults of real data.

Missing descriptions, HTML, mojibake, typos, several languages, near-duplicates, unequal classes, and words shared by
several categories. Nothing comes from a real shop. The same seed gives the same bytes with the same Pillow.
"""

from __future__ import annotations

import csv
import html
import json
import random
import zipfile
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

from rayonnage_shared.ml.base.progress import Progress, silent
from rayonnage_shared.ml.catalogue.sample.photos import Style, draw_photo

MISSING_DESCRIPTIONS = 0.35
PHOTOS = 0.42
NEAR_DUPLICATES = 0.06
FOREIGN_WORDS = 0.13
"""Share of titles with the main words of a neighbouring category, so that no text model is perfect."""

_TYPED_AS_CP1252 = 0.05
_TYPOS = 0.08
_HTML = 0.3
_ZIP_TIME = (2020, 1, 1, 0, 0, 0)


@dataclass(frozen=True, slots=True)
class Vocabulary:
    """Words and look of one category."""

    code: int
    rows: int
    near: list[int]
    things: list[str]
    details: list[str]
    brands: list[str]
    sentences: list[str]
    style: Style


@dataclass(frozen=True, slots=True)
class Made:
    """One generated product; `photo` is a JPEG or None."""

    designation: str
    description: str
    code: int
    product_id: int
    image_id: int
    photo: bytes | None


def generate_sample(folder: Path, seed: int = 20, progress: Progress = silent) -> None:
    """Write about 1,380 products of 27 codes into `folder`: `features.csv`, `target.csv` and `images.zip`.

    `exemple.jpg`, `exemple-livre.jpg` and `exemple.json` are additional products for the documentation.
    """
    folder.mkdir(parents=True, exist_ok=True)
    products = _make_products(seed, progress)
    with (folder / "features.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["", "designation", "description", "productid", "imageid"])
        for i, made in enumerate(products):
            writer.writerow([i, made.designation, made.description, made.product_id, made.image_id])
    with (folder / "target.csv").open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["", "prdtypecode"])
        writer.writerows([i, made.code] for i, made in enumerate(products))
    with zipfile.ZipFile(folder / "images.zip", "w", zipfile.ZIP_STORED) as archive:
        for made in products:
            if made.photo is not None:
                name = f"image_{made.image_id}_product_{made.product_id}.jpg"
                archive.writestr(zipfile.ZipInfo(name, _ZIP_TIME), made.photo)
    _write_examples(folder, seed)


def load_vocabularies() -> dict[int, Vocabulary]:
    """Return the built-in vocabularies by code."""
    text = (resources.files(__package__) / "vocabulary.json").read_text(encoding="utf-8")
    return {int(code): _vocabulary(int(code), entry) for code, entry in json.loads(text).items()}


def _vocabulary(code: int, entry: dict[str, Any]) -> Vocabulary:
    words = {name: entry[name] for name in ("rows", "near", "things", "details", "brands", "sentences")}
    return Vocabulary(code=code, style=Style(entry["shape"], tuple(entry["palette"])), **words)


def _write_examples(folder: Path, seed: int) -> None:
    chance = random.Random(seed + 1)  # noqa: S311
    vocabularies = load_vocabularies()
    (folder / "exemple.jpg").write_bytes(draw_photo(vocabularies[2583].style, chance))
    (folder / "exemple-livre.jpg").write_bytes(draw_photo(vocabularies[10].style, chance))
    product = {
        "designation": "Pompe de piscine hors sol 8 m³/h Aquaclair",
        "description": "Garantit une eau claire tout l'été.",
        "top_k": 3,
    }
    text = json.dumps(product, ensure_ascii=False, indent=2)
    (folder / "exemple.json").write_text(text + "\n", encoding="utf-8")


def _make_products(seed: int, progress: Progress) -> list[Made]:
    chance = random.Random(seed)  # noqa: S311 - nothing here is secret
    vocabularies = load_vocabularies()
    plan = [code for code, vocabulary in vocabularies.items() for _ in range(vocabulary.rows)]
    chance.shuffle(plan)
    made: list[Made] = []
    last_of: dict[int, Made] = {}
    for i, code in enumerate(plan):
        product_id, image_id = 100_000_000 + 7919 * i, 900_000_000 + 6151 * i
        twin = last_of.get(code)
        if twin is not None and chance.random() < NEAR_DUPLICATES:
            product = _twin(twin, chance, product_id, image_id)
        else:
            product = _make(vocabularies, code, chance, product_id, image_id)
        last_of[code] = product
        made.append(product)
        if i % 50 == 0:
            progress(i / len(plan), f"{i} of {len(plan)} products")
    return made


def _make(
    vocabularies: dict[int, Vocabulary], code: int, chance: random.Random, product_id: int, image_id: int
) -> Made:
    own = vocabularies[code]
    named_by = vocabularies[chance.choice(own.near)] if chance.random() < FOREIGN_WORDS else own
    drawn_by = own if chance.random() < 0.75 else vocabularies[chance.choice(list(vocabularies))]
    photo = draw_photo(drawn_by.style, chance) if chance.random() < PHOTOS else None
    return Made(_title(named_by, own, chance), _description(named_by, own, chance), code, product_id, image_id, photo)


def _twin(of: Made, chance: random.Random, product_id: int, image_id: int) -> Made:
    """Return a near-duplicate listing: other number, other case, often the same photo."""
    title = (
        of.designation.upper() if chance.random() < 0.4 else f"{of.designation} - {chance.choice(['neuf', 'promo'])}"
    )
    return Made(title, of.description, of.code, product_id, image_id, of.photo)


def _title(named_by: Vocabulary, own: Vocabulary, chance: random.Random) -> str:
    words = [chance.choice(named_by.things), *chance.sample(named_by.details, chance.choice([1, 1, 2]))]
    if chance.random() < 0.5:
        words.append(chance.choice(own.brands))
    if chance.random() < 0.35:
        words.append(chance.choice(["Neuf", "Livraison rapide", "Lot", "Pas cher", "Occasion", "Cadeau", "- Import"]))
    title = " ".join(words)
    if chance.random() < _TYPOS:
        title = _typo(title, chance)
    if chance.random() < 0.15:
        title = html.escape(title)
    return _as_cp1252(title) if chance.random() < _TYPED_AS_CP1252 else title


def _description(named_by: Vocabulary, own: Vocabulary, chance: random.Random) -> str:
    if chance.random() < MISSING_DESCRIPTIONS:
        return ""
    source = own if chance.random() < 0.5 else named_by
    sentences = chance.sample(source.sentences, chance.choice([1, 2, 2, 3]))
    sentences.append(f"{chance.choice(source.things)}, {chance.choice(source.details)}.")
    if chance.random() < 0.3:
        sentences.append("Expédition sous 24 h, satisfait ou remboursé.")
    if chance.random() < _HTML:
        accents = {"é": "&eacute;", "è": "&egrave;", "à": "&agrave;", "'": "&#39;"}
        text = "<br />".join(f"<p>{sentence}</p>" for sentence in sentences)
        return "".join(accents.get(letter, letter) for letter in text)
    text = ("\n" if chance.random() < 0.1 else " ").join(sentences)
    return _as_cp1252(text) if chance.random() < _TYPED_AS_CP1252 else text


def _typo(text: str, chance: random.Random) -> str:
    i = chance.randrange(len(text) - 1)
    return chance.choice([text[:i] + text[i + 1 :], text[:i] + text[i + 1] + text[i] + text[i + 2 :]])


def _as_cp1252(text: str) -> str:
    """Return `text` as mojibake: UTF-8 bytes decoded as Windows-1252."""
    return text.encode().decode("cp1252", errors="ignore")
