"""Dataset versions on disk: which there are, which one is current, and what is in them.

    <data>/datasets/<version>/products.parquet   one row a product
    <data>/datasets/<version>/manifest.json      what `contracts.datasets.Dataset` shows
    <data>/datasets/current.json                 {"real": version or null, "demo": version or null}
    <data>/photos/ab/<sha256>.jpg                photos by content, shared by all versions

Real and demo data are two lines of versions that never mix; the real one is current as soon as there is one.
`dataset_writer` makes versions; this module only reads and prunes.
"""

from __future__ import annotations

import json
import re
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from rayonnage_shared.core.errors import NotFound
from rayonnage_shared.core.files import remove_folder
from rayonnage_shared.ml.catalogue.products import Products
from rayonnage_shared.ml.catalogue.schemas import Dataset

VERSION_PATTERN = r"^[0-9]{8}T[0-9]{6}Z-[0-9a-f]{4}$"
_VERSION = re.compile(VERSION_PATTERN)
_SHA256 = re.compile(r"[0-9a-f]{64}")
_PRODUCT_COLUMNS = ["id", "designation", "description", "prdtypecode", "photo", "split", "fold", "group"]


class DatasetNotFound(NotFound):
    code, title = "dataset_not_found", "There is no such dataset version"


@dataclass(frozen=True, slots=True)
class Current:
    """The newest version of each line."""

    real: str | None = None
    demo: str | None = None


class DatasetStore:
    """The datasets and photos below one data folder; cheap to make, holds nothing open."""

    def __init__(self, data_path: Path) -> None:
        self.data_path = data_path
        self.folder = data_path / "datasets"
        self.photos_folder = data_path / "photos"
        self.pointer_path = self.folder / "current.json"

    def pointers(self) -> Current:
        """Return the newest version of the real and of the demo line."""
        try:
            pointer = json.loads(self.pointer_path.read_text(encoding="utf-8"))
        except FileNotFoundError:
            return Current()
        return Current(real=pointer.get("real"), demo=pointer.get("demo"))

    def current(self) -> str | None:
        """Return the version that training uses unless told otherwise; None where nothing was ingested."""
        pointers = self.pointers()
        return pointers.real or pointers.demo

    def versions(self) -> list[str]:
        """Return every version, oldest first."""
        if not self.folder.is_dir():
            return []
        return sorted(path.name for path in self.folder.iterdir() if _VERSION.match(path.name))

    def version_folder(self, version: str) -> Path:
        """Return the folder of an existing version. Raises DatasetNotFound."""
        folder = self.folder / version
        if not _VERSION.match(version) or not (folder / "manifest.json").is_file():
            raise DatasetNotFound(f"No dataset version `{version}`; GET /datasets lists those that exist.")
        return folder

    def describe(self, version: str) -> Dataset:
        """Return what the manifest says about a version. Raises DatasetNotFound."""
        manifest = self.version_folder(version) / "manifest.json"
        return Dataset.model_validate_json(manifest.read_bytes())

    def load(self, version: str) -> Products:
        """Return all products of a version. Raises DatasetNotFound."""
        from pyarrow import parquet

        table = parquet.read_table(self.version_folder(version) / "products.parquet", columns=_PRODUCT_COLUMNS)
        return Products(
            ids=table["id"].to_pylist(),
            designations=table["designation"].to_pylist(),
            descriptions=table["description"].to_pylist(),
            codes=table["prdtypecode"].to_numpy().astype(np.int64),
            photos=table["photo"].to_pylist(),
            splits=np.array(table["split"].to_pylist(), dtype=np.str_),
            folds=table["fold"].to_numpy().astype(np.int64),
            groups=table["group"].to_numpy().astype(np.int64),
        )

    def photo_path(self, sha256: str) -> Path:
        """Return where the photo with this content lies, whether or not it is there."""
        if not _SHA256.fullmatch(sha256):
            raise ValueError(f"not a sha256 name: {sha256!r}")
        return self.photos_folder / sha256[:2] / f"{sha256}.jpg"

    def prune(self, keep: int, protected: Collection[str] = ()) -> list[str]:
        """Delete all but the `keep` newest versions and return what went.

        The newest version of each line and those in `protected` (what the champion came from) always stay.
        """
        pointers = self.pointers()
        staying = {pointers.real, pointers.demo, *protected, *self.versions()[::-1][:keep]}
        gone = [version for version in self.versions() if version not in staying]
        for version in gone:
            remove_folder(self.folder / version)
        return gone
