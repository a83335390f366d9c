"""Initial weights of a photo network: ImageNet's from Keras' hub, a local file, or random.

Both kinds of files lie in one folder that only operators and downloads write to. A training parameter can name only
files in it; only arrays are read from them, never code.
"""

from __future__ import annotations

import hashlib
import os
import re
import time
import urllib.request
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from rayonnage_shared.core.errors import BadInput, DependencyDown
from rayonnage_shared.ml.base.progress import Progress

IMAGENET, NONE = "imagenet", "none"

_FILE_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,199}\.(?:h5|keras)")
_PIECE_BYTES = 1 << 20
_SILENCE_S = 20.0
_MAX_BYTES = 500_000_000


class WeightsMissing(BadInput):
    code, title = "weights_missing", "Pretrained weights not found"


class HubUnreachable(DependencyDown):
    code, title = "weights_hub_unreachable", "Pretrained weights cannot be downloaded now"


@dataclass(frozen=True, slots=True)
class HubFile:
    """A file on Keras' hub as keras.applications names it, with the md5 that Keras publishes."""

    address: str
    md5: str
    limit_s: float = 1800.0
    """Time limit of the whole download."""

    @property
    def name(self) -> str:
        """The file's name."""
        return self.address.rpartition("/")[2]


@dataclass(frozen=True, slots=True)
class PretrainedWeights:
    """Initial weights; `path` and `sha256` are None for random ones."""

    source: Literal["imagenet", "file", "none"]
    path: Path | None = None
    sha256: str | None = None

    def facts(self) -> dict[str, str]:
        """Return the facts for the manifest."""
        if self.path is None or self.sha256 is None:
            return {"source": self.source}
        return {"source": self.source, "file": self.path.name, "sha256": self.sha256}


def check_weights(asked: str) -> None:
    """Raise BadInput unless `asked` is `imagenet`, `none` or could be the name of a weights file."""
    if asked not in (IMAGENET, NONE) and not _FILE_NAME.fullmatch(asked):
        raise BadInput(
            "Parameter 'weights' must be 'imagenet', 'none', or the name (not the path) of an .h5 or .keras file in "
            "the folder of pretrained weights."
        )


def find_weights(asked: str, folder: Path | None, hub: HubFile, progress: Progress) -> PretrainedWeights:
    """Return the requested weights, downloaded to `folder` if missing.

    Raises BadInput for an invalid name, WeightsMissing, or HubUnreachable.
    """
    check_weights(asked)
    if asked == NONE:
        return PretrainedWeights("none")
    if folder is None:
        raise WeightsMissing("There is no folder of pretrained weights; set parameter 'weights' to 'none'.")
    if asked == IMAGENET:
        path = folder / hub.name
        if not (path.is_file() and _digest(path, "md5") == hub.md5):
            _download(hub, path, progress)
        return PretrainedWeights("imagenet", path, _digest(path, "sha256"))
    path = folder / asked
    if not path.is_file():
        there = ", ".join(sorted(one.name for one in folder.glob("*") if _FILE_NAME.fullmatch(one.name))) or "none"
        raise WeightsMissing(f"The folder of pretrained weights has no file {asked!r}; it has: {there}.")
    return PretrainedWeights("file", path, _digest(path, "sha256"))


def _download(hub: HubFile, path: Path, progress: Progress) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        _fetch(hub, partial, progress)
        if _digest(partial, "md5") != hub.md5:
            raise HubUnreachable(f"The file from {hub.address} is not the one that Keras publishes; try again later.")
        partial.replace(path)
    except OSError as err:  # includes urllib's errors and timeouts
        raise HubUnreachable(
            f"{hub.address} cannot be downloaded ({err}). Put the file {hub.name} into the folder {path.parent.name} "
            "beside the bundles, or set parameter 'weights' to another value."
        ) from err
    finally:
        partial.unlink(missing_ok=True)


def _fetch(hub: HubFile, target: Path, progress: Progress) -> None:
    deadline = time.monotonic() + hub.limit_s
    got = 0
    # The address is a constant of a family, never a caller's.
    with urllib.request.urlopen(hub.address, timeout=_SILENCE_S) as answer, target.open("wb") as file:  # noqa: S310
        while piece := answer.read(_PIECE_BYTES):
            got += len(piece)
            if got > _MAX_BYTES or time.monotonic() > deadline:
                raise OSError(f"the download exceeded its limits: {got / 1e6:.0f} MB, {hub.limit_s:.0f} s")
            file.write(piece)
            progress(0.0, f"downloading {hub.name}: {got / 1e6:.0f} MB")
        file.flush()
        os.fsync(file.fileno())


def _digest(path: Path, method: Literal["md5", "sha256"]) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, lambda: hashlib.new(method, usedforsecurity=False)).hexdigest()
