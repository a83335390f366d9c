"""A bundle's manifest: read, checked and listed."""

from __future__ import annotations

import hashlib
import json
import re
from pathlib import Path
from typing import Any

from rayonnage_shared.core.errors import NotFound, RayonnageError

FORMAT = 1


MANIFEST_NAME = "manifest.json"


VERSION_PATTERN = re.compile(r"\d{8}T\d{6}Z-[0-9a-f]{4,8}")


class BundleNotFound(NotFound):
    code, title = "model_not_found", "There is no such model version"


class BundleBroken(RayonnageError):
    code, title = "bundle_broken", "A model bundle is damaged"


def read_manifest(models_path: Path, version: str) -> dict[str, Any]:
    """Return a version's manifest. Raises BundleNotFound or BundleBroken."""
    if not VERSION_PATTERN.fullmatch(version):
        raise BundleNotFound(f"{version!r} is not a model version; GET /models lists them.")
    if not (models_path / version / MANIFEST_NAME).exists():
        raise BundleNotFound(f"There is no model {version}; GET /models lists them.")
    return _parse_manifest(models_path / version)


def _parse_manifest(folder: Path) -> dict[str, Any]:
    try:
        manifest: dict[str, Any] = json.loads((folder / MANIFEST_NAME).read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise BundleBroken(f"The manifest of {folder.name} cannot be read. Promote another version.") from error
    if manifest.get("format") != FORMAT:
        raise BundleBroken(f"Bundle {folder.name} has format {manifest.get('format')}; this code reads {FORMAT}.")
    return manifest


def list_versions(models_path: Path) -> list[str]:
    """Return the versions on the volume, newest first."""
    if not models_path.is_dir():
        return []
    found = (path.parent.name for path in models_path.glob(f"*/{MANIFEST_NAME}"))
    return sorted((name for name in found if VERSION_PATTERN.fullmatch(name)), reverse=True)


def hash_files(folder: Path) -> dict[str, str]:
    """Return the sha256 of every file below `folder` but the manifest, by path relative to it."""
    return {
        path.relative_to(folder).as_posix(): _sha256(path)
        for path in sorted(folder.rglob("*"))
        if path.is_file() and path.name != MANIFEST_NAME
    }


def check_files(folder: Path, expected: dict[str, str]) -> None:
    """Raise BundleBroken unless exactly the listed files are there with their hashes."""
    found = hash_files(folder)
    if found != expected:
        odd = sorted({*found, *expected} - {name for name in found if found[name] == expected.get(name)})
        raise BundleBroken(f"Bundle {folder.name}: {', '.join(odd[:3])} differ from the manifest. Promote another one.")


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
