"""Find and check the raw files: structure, columns, labels and photos."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass
from pathlib import Path

from pydantic import BaseModel, Field

from rayonnage_shared.core.errors import RayonnageError
from rayonnage_shared.core.files import write_atomically
from rayonnage_shared.ml.catalogue.ingestion.photo_sources import open_photos
from rayonnage_shared.ml.catalogue.ingestion.table import RawTable, UnreadableTable, read_products

MAX_ROWS = 1_000_000
CHECK_NAME = "check.json"
_FEATURES = ("X_train*.csv", "features*.csv", "products*.csv")
_TARGETS = ("Y_train*.csv", "target*.csv")
_PHOTOS = ("images*.zip", "photos*.zip", "image_train", "images", "images*/image_train", "images*/images/image_train")


@dataclass(frozen=True, slots=True)
class RawFiles:
    """The raw files; `target` is None if the features have labels, `images` if there are no photos."""

    features: Path
    target: Path | None
    images: Path | None


class RawReport(BaseModel):
    """What the check of the raw files found."""

    features: str | None
    target: str | None
    images: str | None
    rows: int = 0
    rows_unreadable: int = Field(0, description="Rows with a wrong number of columns, or without a label.")
    rows_with_photo: int = 0
    rows_without_photo: int = Field(0, description="Rows that name a photo that is not there.")
    classes: dict[str, int] = Field(default_factory=dict, description="Rows by product type code as written.")
    problems: list[str] = Field(default_factory=list, description="Why the files cannot be used; empty if they can.")


def find_raw_files(folder: Path) -> RawFiles:
    """Return the raw files in `folder` or its folder `rakuten`. Raises UnreadableTable without a features file."""
    folders = [folder, folder / "rakuten"]
    features = _first(folders, _FEATURES)
    if features is None:
        raise UnreadableTable(f"There is no features file in {folder} ({', '.join(_FEATURES)}).")
    return RawFiles(features, _first(folders, _TARGETS), _first(folders, _PHOTOS))


def read_raw(files: RawFiles) -> RawTable:
    """Return the rows of the raw files. Raises UnreadableTable."""
    return read_products(files.features, files.target, max_rows=MAX_ROWS)


def check_raw(folder: Path, interim: Path) -> RawReport:
    """Check the raw files in `folder`, write the report to `interim`/check.json and return it."""
    report = _check(folder)
    interim.mkdir(parents=True, exist_ok=True)
    write_atomically(interim / CHECK_NAME, report.model_dump_json(indent=2).encode())
    return report


def _check(folder: Path) -> RawReport:
    report = RawReport(features=None, target=None, images=None)
    try:
        files = find_raw_files(folder)
        report = RawReport(
            features=files.features.name,
            target=files.target.name if files.target else None,
            images=files.images.name if files.images else None,
        )
        table = read_raw(files)
        report.rows = len(table.products) + len(table.rejects)
        report.rows_unreadable = len(table.rejects)
        report.classes = dict(sorted(Counter(one.code for one in table.products).items()))
        if not table.products:
            report.problems.append("No row can be read; the first: " + table.rejects[0].reason)
        _count_photos(files, table, report)
    except RayonnageError as error:
        report.problems.append(error.detail)
    return report


def _count_photos(files: RawFiles, table: RawTable, report: RawReport) -> None:
    with open_photos(files.images) as source:
        for one in table.products:
            if source.find(one.product_id, one.image_id, one.photo_name) is not None:
                report.rows_with_photo += 1
            elif one.image_id or one.photo_name:
                report.rows_without_photo += 1
    if files.images is not None and not report.rows_with_photo:
        report.problems.append(f"No product has a photo in {files.images.name}: names are image_<id>_product_<id>.jpg.")


def _first(folders: list[Path], patterns: tuple[str, ...]) -> Path | None:
    found = (path for folder in folders for pattern in patterns for path in sorted(folder.glob(pattern)))
    return next(found, None)
