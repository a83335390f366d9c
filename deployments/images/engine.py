"""Queries to the Docker engine, for the other scripts in this folder."""

from __future__ import annotations

import json
import subprocess
import tarfile
from collections.abc import Iterator
from contextlib import contextmanager
from typing import IO, Any

BASE = "python:3.13-slim"


def inspect(image: str) -> dict[str, Any]:
    """Return the engine's description of an image. Raises SystemExit with a message if the engine does not have it."""
    found = _docker("image", "inspect", image)
    if found.returncode != 0:
        raise SystemExit(f"{image}: {found.stderr.strip()}; `make images` builds it")
    (answer,) = json.loads(found.stdout)
    return dict(answer)


def inspect_base() -> dict[str, Any]:
    """Return the engine's description of the base image; pull it if BuildKit has not kept it under its name."""
    if _docker("image", "inspect", BASE).returncode != 0:
        _docker("pull", "--quiet", BASE)
    return inspect(BASE)


@contextmanager
def saved(image: str) -> Iterator[IO[bytes]]:
    """Yield an image as the stream of a tar archive. Raises SystemExit if `docker save` fails."""
    with subprocess.Popen(["docker", "save", image], stdout=subprocess.PIPE) as saving:  # noqa: S607 - as make runs it
        assert saving.stdout is not None
        try:
            yield saving.stdout
        except tarfile.ReadError:
            raise SystemExit(f"{image}: the archive from `docker save` is incomplete") from None
        while saving.stdout.read(65536):  # the archive's padding
            pass
    if saving.returncode != 0:
        raise SystemExit(f"{image}: `docker save` failed with status {saving.returncode}")


def _docker(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(["docker", *arguments], check=False, capture_output=True, text=True)  # noqa: S607
