from __future__ import annotations

from pathlib import Path

import pytest

from rayonnage_shared.ml.bundles.manifest import BundleNotFound
from rayonnage_shared.ml.evaluation.plot_files import PlotNotFound, plot_names, read_plot
from tests.unit.shared.ml.bundles.manifests import a_manifest, write_bundle

VERSION = "20260101T000000Z-abcd"


@pytest.fixture
def models(tmp_path: Path) -> Path:
    """A volume with a bundle of two pictures, one of which was never listed."""
    figures = tmp_path / VERSION / "figures"
    figures.mkdir(parents=True)
    (figures / "confusion.png").write_bytes(b"picture")
    (figures / "smuggled.png").write_bytes(b"not listed")
    files = {"figures/confusion.png": "0" * 64, "figures/gone.png": "1" * 64, "text/linear.npz": "2" * 64}
    write_bundle(tmp_path, VERSION, files=files)
    return tmp_path


def test_what_the_manifest_lists_can_be_read(models: Path) -> None:
    found = read_plot(models, VERSION, "confusion")

    assert (found.content, found.sha256) == (b"picture", "0" * 64)


@pytest.mark.parametrize("name", ["smuggled", "gone", "nothing", "../manifest", "../text/linear", "confusion.png", ""])
def test_nothing_else_can(models: Path, name: str) -> None:
    with pytest.raises(PlotNotFound):
        read_plot(models, VERSION, name)


def test_an_unknown_model_is_called_so(models: Path) -> None:
    for version in ("20260101T000000Z-ffff", "../models", ".."):
        with pytest.raises(BundleNotFound):
            read_plot(models, version, "confusion")


def test_names_are_in_order_and_of_pictures_alone() -> None:
    files = ["figures/selective.png", "figures/classes.png", "figures/Bad.png", "figures/a/b.png", "evaluation.json"]

    assert plot_names(a_manifest(files=dict.fromkeys(files, ""))) == ["classes", "selective"]
