"""Folders that take long to make, kept for as long as the code and the data that they come from stay the same."""

from __future__ import annotations

import hashlib
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

from rayonnage_shared.core.files import open_locked

_ROOT = Path(__file__).parents[1]
_SOURCES = ("shared/rayonnage_shared", "data/sample", "uv.lock")


def made_once(kept: Path, name: str, make: Callable[[Path], None]) -> Path:
    """Return a folder with what `make` leaves in it, to be copied before anything is written to it.

    It stays in `kept`, and is made again when the sources have changed. Test processes that ask at the same time wait
    for the first of them.
    """
    folder = kept / f"{name}-{_hash_of_sources()}"
    with open_locked(kept / f"{name}.lock"):
        if not folder.exists():
            for old in kept.glob(f"{name}-*"):
                shutil.rmtree(old)
            unfinished = kept / f"unfinished-{name}"
            shutil.rmtree(unfinished, ignore_errors=True)
            unfinished.mkdir()
            make(unfinished)
            unfinished.rename(folder)
    return folder


def _hash_of_sources() -> str:
    digest = hashlib.sha256(sys.version.encode())
    for source in (_ROOT / one for one in _SOURCES):
        for path in sorted(source.rglob("*")) if source.is_dir() else [source]:
            if path.is_file() and "__pycache__" not in path.parts:
                digest.update(f"{path.relative_to(_ROOT)} {path.stat().st_size} ".encode() + path.read_bytes())
    return digest.hexdigest()[:16]
