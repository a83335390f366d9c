"""Checkpoints after each epoch, from which a killed training resumes. Arrays, no pickle."""

from __future__ import annotations

import hashlib
import json
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from rayonnage_shared.core.files import write_atomically
from rayonnage_shared.ml.base.model import FloatArray
from rayonnage_shared.ml.networks.epochs import EpochMetrics

Arrays = list[NDArray[Any]]


@dataclass(frozen=True, slots=True)
class Best:
    """The network after its best epoch: all its variables, and its scores for the held-out rows."""

    variables: Arrays
    held_out_scores: FloatArray


@dataclass(frozen=True, slots=True)
class Last:
    """The network after its last epoch, its optimizer, and the history."""

    variables: Arrays
    optimizer: Arrays
    history: tuple[EpochMetrics, ...]


def fingerprint(facts: Mapping[str, Any], *arrays: NDArray[Any]) -> str:
    """Return a sha256 of the inputs of a training, so that it resumes only its own checkpoints."""
    digest = hashlib.sha256(json.dumps(facts, sort_keys=True).encode())
    for array in arrays:
        digest.update(np.ascontiguousarray(array).data)
    return digest.hexdigest()


class Checkpoints:
    """The files of one phase of a training below `folder`; without a folder nothing is written or found."""

    def __init__(self, folder: Path | None, phase: str, fingerprint: str) -> None:
        self._folder = folder
        self._phase = phase
        self._fingerprint = fingerprint

    def write_best(self, best: Best) -> None:
        """Save the best epoch; call it before `write_last` of the same epoch."""
        self._write("best", {**_named("variable", best.variables), "held_out_scores": best.held_out_scores})

    def write_last(self, last: Last) -> None:
        """Save the state from which a training resumes."""
        history = json.dumps([asdict(one) for one in last.history])
        arrays = {**_named("variable", last.variables), **_named("optimizer", last.optimizer)}
        self._write("last", {**arrays, "history": np.array(history)})

    def read_best(self) -> Best | None:
        """Return what `write_best` saved, or None."""
        arrays = self._read("best")
        return None if arrays is None else Best(_numbered("variable", arrays), arrays["held_out_scores"])

    def read_last(self) -> Last | None:
        """Return what `write_last` saved, or None."""
        arrays = self._read("last")
        if arrays is None:
            return None
        history = tuple(EpochMetrics(**one) for one in json.loads(str(arrays["history"])))
        return Last(_numbered("variable", arrays), _numbered("optimizer", arrays), history)

    def _path(self, name: str) -> Path | None:
        return self._folder and self._folder / f"{self._phase}.{name}.npz"

    def _write(self, name: str, arrays: Mapping[str, NDArray[Any]]) -> None:
        path = self._path(name)
        if path is not None:
            content = BytesIO()
            np.savez(content, allow_pickle=False, fingerprint=np.array(self._fingerprint), **arrays)
            write_atomically(path, content.getvalue())

    def _read(self, name: str) -> dict[str, NDArray[Any]] | None:
        path = self._path(name)
        try:
            if path is None or not path.exists():
                return None
            with path.open("rb") as file, np.load(file, allow_pickle=False) as content:
                arrays = dict(content)
        except (OSError, EOFError, ValueError, zipfile.BadZipFile):
            return None  # written atomically, so the disk has lost data: start again rather than fail forever
        return arrays if str(arrays.pop("fingerprint", "")) == self._fingerprint else None


def _named(kind: str, arrays: Sequence[NDArray[Any]]) -> dict[str, NDArray[Any]]:
    return {f"{kind}_{number}": array for number, array in enumerate(arrays)}


def _numbered(kind: str, arrays: Mapping[str, NDArray[Any]]) -> Arrays:
    count = sum(name.startswith(f"{kind}_") for name in arrays)
    return [arrays[f"{kind}_{number}"] for number in range(count)]
