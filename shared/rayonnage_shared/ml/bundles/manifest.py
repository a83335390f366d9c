"""The manifest of a bundle: its schema, and the only code that reads or writes it."""

from __future__ import annotations

import json
import re
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Literal

from pydantic import AwareDatetime, BaseModel, ConfigDict, Field, JsonValue, PlainSerializer, ValidationError

from rayonnage_shared.core.errors import NotFound, RayonnageError
from rayonnage_shared.core.files import sha256_of, write_atomically
from rayonnage_shared.core.validation import first_fault
from rayonnage_shared.ml.base.categories import Categories
from rayonnage_shared.ml.families import Component

MANIFEST_NAME = "manifest.json"
VERSION_PATTERN = re.compile(r"\d{8}T\d{6}Z-[0-9a-f]{4,8}")

Version = Annotated[str, Field(pattern=rf"^{VERSION_PATTERN.pattern}$")]
Moment = Annotated[AwareDatetime, PlainSerializer(lambda moment: moment.isoformat(), when_used="json")]
Parameter = float | int | str | bool | None


class BundleNotFound(NotFound):
    code, title = "model_not_found", "There is no such model version"


class BundleBroken(RayonnageError):
    code, title = "bundle_broken", "A model bundle is damaged"


class _Section(BaseModel):
    """Base of the manifest's parts; unknown keys are kept, so that they are tolerated and still shown."""

    model_config = ConfigDict(frozen=True, extra="allow")


class Families(_Section):
    """The family of each model of a bundle; None for a model that the bundle does not have."""

    text: str | None
    image: str | None
    fusion: str | None

    def present(self) -> dict[Component, str]:
        """Return the families of the components that the bundle has."""
        families: dict[Component, str | None] = {"text": self.text, "image": self.image, "fusion": self.fusion}
        return {component: family for component, family in families.items() if family}


class DatasetReference(_Section):
    """The dataset version that a bundle was trained on; `sha256` is the hash of its products file."""

    version: str
    sha256: str
    demo: bool


class FittedModel(_Section):
    """How one model of a bundle was fitted; `seconds` and `demo` are None for a model from before there were such."""

    family: str
    parameters: dict[str, Parameter] = {}
    seconds: float | None = None
    demo: bool | None = Field(None, description="Whether it was fitted to the demo catalogue.")
    facts: dict[str, JsonValue] = {}


class ThresholdChoice(_Section):
    """How the thresholds of `decision` were chosen; `confidence` is the probability that they keep the promise."""

    method: str
    confidence: float


class Manifest(_Section):
    """What a bundle contains and how it was made."""

    format: Literal[1] = Field(description="Version of this format.")
    version: Version
    created_at: Moment
    families: Families
    categories: Categories
    dataset: DatasetReference
    base_version: Version | None = Field(description="The bundle from which a model was kept.")
    code_version: str
    parameters: dict[str, Parameter] = Field(description="As the training request gave them.")
    seed: int
    promised_precision: float
    thresholds: ThresholdChoice | None = Field(None, description="None for a bundle from before this was recorded.")
    submitted_by: str
    metrics: dict[str, float | int] = Field(description="Measured on the test split.")
    libraries: dict[str, str]
    models: dict[str, FittedModel] = Field(
        {}, description="A fusion that was left out is named too; empty for a bundle from before this was recorded."
    )
    best_part: Literal["text", "image"] | None = Field(
        None, description="Without a fusion, the model that predicts products with text and photo; null: text."
    )
    left_out: dict[Component, str] = Field({}, description="Why the bundle has no such model.")
    files: dict[str, str] = Field(description="The sha256 of each file, by its path in the bundle.")

    def fitted_fusion(self) -> str | None:
        """Return the family of the fusion that was fitted, also if it was then left out; None without one."""
        return self.models["fusion"].family if "fusion" in self.models else self.families.fusion


def read_manifest(models_path: Path, version: str) -> Manifest:
    """Return the manifest of a version. Raises BundleNotFound or BundleBroken."""
    if not VERSION_PATTERN.fullmatch(version):
        raise BundleNotFound(f"{version[:64]!r} is not a model version; GET /models or `rayonnage models` lists them.")
    return read_manifest_in(models_path / version)


def read_manifest_in(folder: Path) -> Manifest:
    """Return the manifest of the bundle in `folder`. Raises BundleNotFound or BundleBroken."""
    try:
        return Manifest.model_validate_json((folder / MANIFEST_NAME).read_bytes(), strict=True)
    except (FileNotFoundError, NotADirectoryError) as error:
        raise BundleNotFound(
            f"There is no model {folder.name}; GET /models or `rayonnage models` lists them."
        ) from error
    except OSError as error:
        raise BundleBroken(f"The manifest of bundle {folder.name} cannot be read: {error.strerror}.") from error
    except ValidationError as error:
        raise BundleBroken(f"Bundle {folder.name} {_what_is_wrong(error)}.") from error


def dataset_of_broken(models_path: Path, version: str) -> str | None:
    """Return the dataset version that a broken manifest still names, if any."""
    try:
        document = json.loads((models_path / version / MANIFEST_NAME).read_bytes())
        return str(document["dataset"]["version"])
    except (OSError, ValueError, TypeError, LookupError, RecursionError):
        return None


def write_manifest(folder: Path, manifest: Manifest) -> None:
    """Write the manifest of the bundle in `folder`; fields that an older one did not have are not added to it."""
    document = manifest.model_dump(mode="json", exclude_unset=True)
    if not manifest.categories.translations:
        del document["categories"]["translations"]
    content = json.dumps(document, indent=1, ensure_ascii=False)
    write_atomically(folder / MANIFEST_NAME, content.encode())


def list_versions(models_path: Path) -> list[str]:
    """Return the versions on the volume, newest first."""
    if not models_path.is_dir():
        return []
    found = (path.parent.name for path in models_path.glob(f"*/{MANIFEST_NAME}"))
    return sorted((name for name in found if VERSION_PATTERN.fullmatch(name)), reverse=True)


def creation_time(version: str) -> datetime:
    """Return the time in a version's name, at which its training was planned; 1970 if it is not a valid time."""
    try:
        return datetime.strptime(version.split("-", maxsplit=1)[0], "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC)
    except ValueError:
        return datetime.fromtimestamp(0, UTC)


def hash_files(folder: Path) -> dict[str, str]:
    """Return the sha256 of every file below `folder` except the manifest, by path relative to it."""
    return {
        path.relative_to(folder).as_posix(): sha256_of(path)
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.name != MANIFEST_NAME
    }


def check_files(folder: Path, expected: dict[str, str]) -> None:
    """Raise BundleBroken unless the folder has exactly the expected files, each with its hash."""
    found = hash_files(folder)
    if found != expected:
        odd = sorted({*found, *expected} - {name for name in found if found[name] == expected.get(name)})
        raise BundleBroken(f"Bundle {folder.name}: {', '.join(odd[:3])} differ from the manifest. Promote another one.")


def _what_is_wrong(error: ValidationError) -> str:
    for fault in error.errors():
        if fault["loc"] == ("format",) and fault["type"] == "literal_error":  # the cause of all other faults
            return f"has a manifest of format {fault['input']!r}; this code reads format 1"
    return f"has no valid manifest: {first_fault(error)}"
