"""Dataset versions on disk: list them, read them, and find the current one.

    <data>/datasets/<version>/products.parquet   one row a product
    <data>/datasets/<version>/manifest.json      what `schemas.Dataset` shows
    <data>/datasets/current.json                 {"real": version or null, "demo": version or null}
    <data>/photos/ab/<sha256>.jpg                photos by content, shared by all versions
    <data>/cache/photo-features.sqlite           features of photos (`features.photo_feature_cache`)

Real and demo versions are separate and never merged; the real one is current as soon as there is one.
`dataset_writer` writes versions; this module reads and prunes them.
"""

from __future__ import annotations

import re
from collections.abc import Collection
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import numpy as np
import structlog
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from rayonnage_shared.core.errors import NotFound, RayonnageError
from rayonnage_shared.core.files import remove_folder
from rayonnage_shared.core.validation import first_fault
from rayonnage_shared.ml.catalogue.products import Products
from rayonnage_shared.ml.catalogue.schemas import Dataset

if TYPE_CHECKING:
    import pyarrow as pa

log = structlog.get_logger()

MANIFEST_NAME = "manifest.json"
VERSION_PATTERN = r"^[0-9]{8}T[0-9]{6}Z-[0-9a-f]{4}$"
_VERSION = re.compile(VERSION_PATTERN)
_SHA256 = re.compile(r"[0-9a-f]{64}")
_PRODUCT_COLUMNS = ["id", "designation", "description", "prdtypecode", "photo", "split", "fold", "group"]


class DatasetNotFound(NotFound):
    code, title = "dataset_not_found", "Dataset version not found"


class DatasetBroken(RayonnageError):
    code, title = "dataset_broken", "A dataset version is damaged"


Version = Annotated[str, Field(pattern=VERSION_PATTERN)]


class Current(BaseModel):
    """The newest version of each line; the content of `current.json`."""

    model_config = ConfigDict(frozen=True)

    real: Version | None = None
    demo: Version | None = None


class DatasetStore:
    """The datasets and photos below one data folder; cheap to create, keeps nothing open."""

    def __init__(self, data_path: Path) -> None:
        self.data_path = data_path
        self.folder = data_path / "datasets"
        self.photos_folder = data_path / "photos"
        self.pointer_path = self.folder / "current.json"

    def pointers(self) -> Current:
        """Return the newest version of the real and of the demo line.

        A damaged pointer is replaced by the next ingest; until then the newest readable versions count.
        """
        try:
            return Current.model_validate_json(self.pointer_path.read_bytes())
        except FileNotFoundError:
            return Current()
        except (OSError, ValidationError) as error:
            log.warning("dataset.pointer_broken", path=str(self.pointer_path), error=str(error).splitlines()[0])
            newest = {dataset.demo: dataset.version for dataset in self.described()[0]}  # the last of each line counts
            return Current(real=newest.get(False), demo=newest.get(True))

    def current(self) -> str | None:
        """Return the version that training uses by default, or None if nothing was ingested."""
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
        if not _VERSION.match(version) or not (folder / MANIFEST_NAME).is_file():
            raise DatasetNotFound(
                f"No dataset version `{version}`; GET /datasets or `rayonnage datasets` lists the versions."
            )
        return folder

    def describe(self, version: str) -> Dataset:
        """Return what the manifest says about a version. Raises DatasetNotFound or DatasetBroken."""
        return read_dataset(self.version_folder(version))

    def described(self) -> tuple[list[Dataset], dict[str, str]]:
        """Return what the manifests say, oldest first, and by version why broken ones cannot be read."""
        found, broken = [], {}
        for version in self.versions():
            try:
                found.append(self.describe(version))
            except DatasetBroken as error:
                broken[version] = error.detail
            except DatasetNotFound:  # pruned in the meantime
                continue
        return found, broken

    def read_table(self, version: str, columns: list[str] | None = None) -> pa.Table:
        """Return the products file of a version. Raises DatasetNotFound or DatasetBroken."""
        from pyarrow import parquet

        path = self.version_folder(version) / "products.parquet"
        try:
            return parquet.read_table(path, columns=columns)
        except (OSError, ValueError) as error:  # pyarrow's own errors are ValueErrors
            raise DatasetBroken(f"The products of dataset {version} cannot be read: {error}.") from error

    def load(self, version: str) -> Products:
        """Return all products of a version. Raises DatasetNotFound or DatasetBroken."""
        table = self.read_table(version, _PRODUCT_COLUMNS)
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
        """Return the path of the photo with this sha256, whether or not it exists."""
        if not _SHA256.fullmatch(sha256):
            raise ValueError(f"not a sha256 name: {sha256!r}")
        return self.photos_folder / sha256[:2] / f"{sha256}.jpg"

    def processed_folder(self, version: str) -> Path:
        """Return the folder of a version's transformed data (`rayonnage data transform`), whether or not it exists."""
        return self.data_path / "processed" / version

    @property
    def photo_features_path(self) -> Path:
        """Return the file in which features of photos are cached."""
        return self.data_path / "cache" / "photo-features.sqlite"

    def prune(self, keep: int, protected: Collection[str] = ()) -> list[str]:
        """Delete all but the `keep` newest versions and return what was deleted; one that cannot be is logged.

        The newest version of each line and those in `protected` (what bundles were trained on) always stay.
        """
        pointers = self.pointers()
        staying = {pointers.real, pointers.demo, *protected, *self.versions()[::-1][:keep]}
        deleted = []
        for version in self.versions():
            if version in staying:
                continue
            try:
                remove_folder(self.folder / version)
            except OSError as error:
                log.error("retention.failed", dataset=version, error=str(error))
                continue
            deleted.append(version)
        return deleted


def read_dataset(folder: Path) -> Dataset:
    """Return what the manifest in a version's folder says. Raises DatasetNotFound or DatasetBroken."""
    try:
        return Dataset.model_validate_json((folder / MANIFEST_NAME).read_bytes())
    except (FileNotFoundError, NotADirectoryError) as error:
        raise DatasetNotFound(f"There is no dataset version {folder.name}.") from error
    except OSError as error:
        raise DatasetBroken(f"The manifest of dataset {folder.name} cannot be read: {error.strerror}.") from error
    except ValidationError as error:
        raise DatasetBroken(f"Dataset {folder.name} has no valid manifest: {first_fault(error)}.") from error
