"""The plots of a bundle's evaluation, as files; `ml.evaluation.figures` draws them."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from rayonnage_shared.core.errors import NotFound
from rayonnage_shared.ml.bundles.manifest import Manifest, read_manifest

FIGURES_FOLDER = "figures"
FIGURE_NAME_PATTERN = r"^[a-z][a-z0-9_]{0,39}$"
_FILE = re.compile(rf"{FIGURES_FOLDER}/([a-z][a-z0-9_]{{0,39}})\.png")


class FigureNotFound(NotFound):
    code, title = "figure_not_found", "This model has no such figure"


@dataclass(frozen=True, slots=True)
class FigureFile:
    """A PNG plot and the hash under which the manifest lists it."""

    content: bytes
    sha256: str


def figure_names(manifest: Manifest) -> list[str]:
    """Return the names of the figures that a manifest lists, sorted."""
    return sorted(found[1] for found in map(_FILE.fullmatch, manifest.files) if found)


def read_figure(models_path: Path, version: str, name: str) -> FigureFile:
    """Return a figure of a bundle. Raises BundleNotFound, BundleBroken, or FigureNotFound."""
    manifest = read_manifest(models_path, version)
    if name not in figure_names(manifest):
        known = ", ".join(figure_names(manifest)) or "none"
        raise FigureNotFound(f"Model {version} has no figure {name!r}; it has: {known}.")
    path = f"{FIGURES_FOLDER}/{name}.png"
    try:
        return FigureFile((models_path / version / path).read_bytes(), manifest.files[path])
    except FileNotFoundError as error:  # the bundle was pruned just now
        raise FigureNotFound(f"The figures of model {version} are gone; GET /models lists what there is.") from error
