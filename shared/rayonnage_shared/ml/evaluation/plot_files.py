"""The plots of a bundle's evaluation, as files; `ml.evaluation.plots` draws them."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from rayonnage_shared.core.errors import NotFound
from rayonnage_shared.ml.bundles.manifest import Manifest, read_manifest

PLOTS_FOLDER = "figures"
PLOT_NAME_PATTERN = r"^[a-z][a-z0-9_]{0,39}$"
_FILE = re.compile(rf"{PLOTS_FOLDER}/([a-z][a-z0-9_]{{0,39}})\.png")


class PlotNotFound(NotFound):
    code, title = "figure_not_found", "This model has no such plot"


@dataclass(frozen=True, slots=True)
class PlotFile:
    """A PNG plot and the hash under which the manifest lists it."""

    content: bytes
    sha256: str


def plot_names(manifest: Manifest) -> list[str]:
    """Return the names of the plots that a manifest lists, sorted."""
    return sorted(found[1] for found in map(_FILE.fullmatch, manifest.files) if found)


def read_plot(models_path: Path, version: str, name: str) -> PlotFile:
    """Return a plot of a bundle. Raises BundleNotFound, BundleBroken, or PlotNotFound."""
    manifest = read_manifest(models_path, version)
    if name not in plot_names(manifest):
        known = ", ".join(plot_names(manifest))
        has = f"it has: {known}." if known else "it has none. After `make plots`, each training draws them."
        raise PlotNotFound(f"Model {version} has no plot {name!r}; {has}")
    path = f"{PLOTS_FOLDER}/{name}.png"
    try:
        return PlotFile((models_path / version / path).read_bytes(), manifest.files[path])
    except FileNotFoundError as error:  # the bundle was pruned just now
        raise PlotNotFound(f"The plots of model {version} are gone; GET /models lists the versions.") from error
