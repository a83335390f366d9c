"""Small catalogues and photos for tests about data."""

from __future__ import annotations

import csv
import io
import random
import zipfile
from collections.abc import Mapping, Sequence
from pathlib import Path

from PIL import Image

HEADER = ("designation", "description", "productid", "imageid", "prdtypecode")


def write_csv(path: Path, rows: Sequence[Sequence[object]], header: Sequence[str] = HEADER) -> Path:
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file)
        writer.writerow(header)
        writer.writerows(rows)
    return path


def write_zip(path: Path, members: Mapping[str, bytes]) -> Path:
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in members.items():
            archive.writestr(name, data)
    return path


def photo(seed: int) -> bytes:
    """A JPEG whose perceptual hash no other seed shares."""
    chance = random.Random(seed)
    small = Image.frombytes("RGB", (6, 6), chance.randbytes(108))
    out = io.BytesIO()
    small.resize((96, 96)).save(out, "JPEG", quality=85)
    return out.getvalue()


def title(number: int) -> str:
    """A title that is no near-duplicate of any other."""
    chance = random.Random(number)
    return " ".join("".join(chance.choices("abcdefghilmnoprstuv", k=7)) for _ in range(6))


def many_rows(n: int, code: int = 10, start: int = 0) -> list[tuple[object, ...]]:
    return [(title(i), "", 1000 + i, 5000 + i, code) for i in range(start, start + n)]
