"""What a model family is: fit, predict_proba, save, load.

Classes are positions in the bundle's tuple of category codes. Probabilities are (n, n_classes) float32 with rows that
sum to 1, calibrated on rows that the model was not fitted on; a class without training rows gets 0.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, NamedTuple, Self

import numpy as np
from numpy.typing import NDArray

from rayonnage_shared.errors import BadInput
from rayonnage_shared.ml.progress import Progress, silent

FloatArray = NDArray[np.float32]
IntArray = NDArray[np.int64]
Pixels = NDArray[np.uint8]
Parameters = Mapping[str, float | int | str | bool]


class ProductText(NamedTuple):
    """A product's title and description, cleaned by `ml.text.clean`; either may be empty, not both."""

    title: str
    description: str


@dataclass(frozen=True, slots=True)
class Labels:
    """What to fit to: `classes` (n,) positions, `folds` (n,) numbers by which twins stay together."""

    classes: IntArray
    folds: IntArray
    n_classes: int


class Model(ABC):
    """A fitted model of one modality."""

    name: ClassVar[str]
    parameters: ClassVar[Mapping[str, float | int | str | bool]]
    """What `fit` accepts, with the defaults."""

    @classmethod
    def resolve(cls, parameters: Parameters) -> dict[str, float | int | str | bool]:
        """Return the defaults with `parameters` in their place; raises BadInput for an unknown name or wrong type."""
        resolved = dict(cls.parameters)
        for name, value in parameters.items():
            if name not in resolved:
                known = ", ".join(sorted(resolved)) or "none"
                raise BadInput(f"{cls.name} has no parameter {name!r}; it knows: {known}.")
            default = resolved[name]
            numbers = isinstance(default, int | float) and not isinstance(default, bool)
            fits = (
                isinstance(value, int | float) and not isinstance(value, bool)
                if numbers
                else type(value) is type(default)
            )
            if not fits:
                raise BadInput(f"Parameter {name!r} of {cls.name} must be like its default {default!r}.")
            resolved[name] = value
        return resolved

    @abstractmethod
    def save(self, folder: Path) -> None:
        """Write plain arrays and ONNX files into the existing, empty `folder`."""

    @classmethod
    @abstractmethod
    def load(cls, folder: Path) -> Self:
        """Return the model that `save` wrote; needs NumPy and ONNX Runtime only."""


class TextModel(Model):
    """A family for titles and descriptions."""

    fast: ClassVar[bool] = False
    """Whether one product takes well under a millisecond, so that serving need not leave the event loop."""

    @classmethod
    @abstractmethod
    def fit(
        cls,
        texts: Sequence[ProductText],
        labels: Labels,
        *,
        parameters: Parameters,
        seed: int,
        progress: Progress = silent,
    ) -> tuple[Self, FloatArray]:
        """Return the model fitted on all rows, and calibrated held-out probabilities (n, n_classes).

        A held-out row comes from a model that saw neither the row nor its fold; rows for which there is none are NaN.
        """

    @abstractmethod
    def predict_proba(self, texts: Sequence[ProductText]) -> FloatArray:
        """Return calibrated probabilities (n, n_classes)."""


class ImageModel(Model):
    """A family for photos."""

    input_size: ClassVar[int]
    """Side of the square input, pixels."""

    @classmethod
    @abstractmethod
    def fit(
        cls,
        photos: Sequence[Path],
        labels: Labels,
        *,
        parameters: Parameters,
        seed: int,
        progress: Progress = silent,
    ) -> tuple[Self, FloatArray]:
        """Return the model fitted on all photos, and held-out probabilities as `TextModel.fit` does."""

    @abstractmethod
    def predict_proba(self, pixels: Pixels) -> FloatArray:
        """Return calibrated probabilities (n, n_classes) for pixels (n, size, size, 3) uint8 RGB."""
