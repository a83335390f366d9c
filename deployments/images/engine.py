"""What the scripts beside this one ask the Docker engine."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

BASE = "python:3.13-slim"


def inspect(image: str) -> dict[str, Any]:
    """Return what the engine knows about an image that it has. Raises SystemExit, having said so, when it has none."""
    found = _docker("image", "inspect", image)
    if found.returncode != 0:
        raise SystemExit(f"{image}: {found.stderr.strip()}; `make images` builds it")
    (answer,) = json.loads(found.stdout)
    return dict(answer)


def inspect_base() -> dict[str, Any]:
    """Return what the engine knows about the base; BuildKit does not keep it under its name, so it may be fetched."""
    if _docker("image", "inspect", BASE).returncode != 0:
        _docker("pull", "--quiet", BASE)
    return inspect(BASE)


def save(image: str, archive: Path) -> None:
    """Write an image, layer by layer, into a tar archive."""
    subprocess.run(["docker", "save", "--output", str(archive), image], check=True)  # noqa: S607 - as make runs it


def _docker(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(["docker", *arguments], check=False, capture_output=True, text=True)  # noqa: S607
