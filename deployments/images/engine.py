"""What the scripts beside this one ask the Docker engine."""

from __future__ import annotations

import json
import subprocess
import tarfile
from collections.abc import Iterator
from contextlib import contextmanager
from typing import IO, Any

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


@contextmanager
def saved(image: str) -> Iterator[IO[bytes]]:
    """Give an image, layer by layer, as the stream of a tar archive. Raises SystemExit when the engine breaks off."""
    with subprocess.Popen(["docker", "save", image], stdout=subprocess.PIPE) as saving:  # noqa: S607 - as make runs it
        assert saving.stdout is not None
        try:
            yield saving.stdout
        except tarfile.ReadError:
            raise SystemExit(f"{image}: the engine did not give all of it") from None
        while saving.stdout.read(65536):  # the archive's padding
            pass
    if saving.returncode != 0:
        raise SystemExit(f"{image}: `docker save` ended with {saving.returncode}")


def _docker(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(["docker", *arguments], check=False, capture_output=True, text=True)  # noqa: S607
