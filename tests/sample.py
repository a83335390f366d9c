"""Parts of the sample catalogue."""

from __future__ import annotations

import csv
import itertools
import zipfile
from pathlib import Path

SAMPLE = Path(__file__).parents[1] / "data" / "sample"


def write_first_rows(folder: Path, rows: int) -> Path:
    """Write features.csv, target.csv and images.zip with the sample's first rows and their photos; return `folder`."""
    for name in ("features.csv", "target.csv"):
        with (SAMPLE / name).open(encoding="utf-8", newline="") as source, (folder / name).open("w", newline="") as out:
            csv.writer(out).writerows(itertools.islice(csv.reader(source), rows + 1))
    with (folder / "features.csv").open(newline="") as file:
        wanted = {f"image_{row['imageid']}_product_{row['productid']}.jpg" for row in csv.DictReader(file)}
    with zipfile.ZipFile(SAMPLE / "images.zip") as source_zip, zipfile.ZipFile(folder / "images.zip", "w") as part:
        for name in source_zip.namelist():
            if name in wanted:
                part.writestr(name, source_zip.read(name))
    return folder
