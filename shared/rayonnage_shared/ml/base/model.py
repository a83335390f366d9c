"""The interface of a model family: fit, output (from which predict_proba follows), save, load.

A class is a position in the bundle's tuple of category codes. Probabilities are (n, n_classes) float32 with rows that
sum to 1, calibrated on rows that the model was not fitted on; a class without training rows gets 0.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Generic, Literal, NamedTuple, Self, TypeVar

import numpy as np
from numpy.typing import NDArray

from rayonnage_shared.core.errors import BadInput
from rayonnage_shared.ml.base.parameters import (
    Bounds,
    Choice,
    Parameter,
    Parameters,
    UnknownParameter,
    WrongParameter,
    has_type_of,
)
from rayonnage_shared.ml.base.progress import Progress, silent

FloatArray = NDArray[np.float32]
IntArray = NDArray[np.int64]
Pixels = NDArray[np.uint8]


class ProductText(NamedTuple):
    """A product's title and description, cleaned by `features.text.clean`. Either may be empty, but not both."""

    title: str
    description: str


@dataclass(frozen=True, slots=True)
class Labels:
    """Training labels: `classes` (n,) positions, and `folds` (n,) in which near-duplicates share a fold.

    Rows with the same number in `groups` (n,) are near-duplicates; without it each row is its own group.
    """

    classes: IntArray
    folds: IntArray
    n_classes: int
    groups: IntArray | None = None

    def take(self, rows: NDArray[Any]) -> Labels:
        """Return the labels of `rows`, a mask (n,) or positions."""
        groups = None if self.groups is None else self.groups[rows]
        return Labels(self.classes[rows], self.folds[rows], self.n_classes, groups)


@dataclass(frozen=True, slots=True)
class Fitting:
    """How to fit: non-default parameters, seed, progress callback, and the folder to resume from."""

    parameters: Parameters = field(default_factory=dict)
    seed: int = 0
    progress: Progress = silent
    checkpoints: Path | None = None
    """An existing folder that survives a killed run; networks write a checkpoint there after each epoch."""
    pretrained: Path | None = None
    """Folder of pretrained weights, filled by downloads or by hand; parameters name files in it, not paths."""
    photo_features: Path | None = None
    """File in which features of photos are cached (`features.photo_feature_cache`)."""


DEFAULTS = Fitting()


@dataclass(frozen=True, slots=True)
class Curve:
    """A metric during training; `train` and `held_out` have a value for each number in `x`."""

    metric: str
    """Such as `accuracy` or `loss`."""
    axis: Literal["epochs", "rows"]
    x: tuple[float, ...]
    train: tuple[float, ...]
    held_out: tuple[float, ...]


class ModelOutput(NamedTuple):
    """A model's output for n products: calibrated probabilities (n, n_classes) and features (n, width), both float32.

    Features are the inputs of its last layer; width is 0 for a family without one. Features of a row that has
    held-out probabilities do not depend on the row's class.
    """

    probabilities: FloatArray
    features: FloatArray


def known_rows(table: FloatArray) -> NDArray[np.bool_]:
    """Return (n,) bool: which rows of `table` (n, width) have no NaN."""
    return np.asarray(~np.isnan(table).any(axis=1))


M_co = TypeVar("M_co", covariant=True)


@dataclass(frozen=True)
class Fitted(Generic[M_co]):
    """The result of `fit`."""

    model: M_co
    """Fitted on all rows, or on all but one fold if another fit would take too long."""
    held_out: FloatArray
    """Calibrated out-of-fold probabilities (n, n_classes); NaN for rows without them."""
    curves: tuple[Curve, ...] = ()
    facts: Mapping[str, Any] = field(default_factory=dict)
    """Additional facts for the manifest, such as the source of pretrained weights."""
    features: FloatArray | None = None
    """The training rows' `ModelOutput.features` if available; otherwise they are computed when needed."""


@dataclass(frozen=True, kw_only=True)
class FittedFusion(Fitted[M_co]):
    """The result of `Fusion.fit`; all probabilities are out of fold. `held_out` covers rows with both modalities."""

    text_alone: FloatArray
    """Out-of-fold probabilities (n, n_classes) of `combine(text, None)`; NaN for rows without text."""
    image_alone: FloatArray
    """Out-of-fold probabilities (n, n_classes) of `combine(None, image)`; NaN for rows without a photo."""


@dataclass(frozen=True, slots=True)
class Span:
    """A numeric search range from `low` to `high`, logarithmic or uniform."""

    low: float
    high: float
    logarithmic: bool = False
    whole: bool = False


class FamilyNotTrainable(BadInput):
    code, title = "family_not_trainable", "This family cannot be trained here"


class Family(ABC):
    """A model that can be saved and loaded."""

    name: ClassVar[str]
    parameters: ClassVar[Mapping[str, Parameter]]
    """The parameters of `fit` with their defaults."""
    bounds: ClassVar[Mapping[str, Bounds | Choice]] = {}
    """The values that parameters may have; a request with any other is refused before it is queued."""
    search_space: ClassVar[Mapping[str, Span | Choice]] = {}
    """The search ranges of parameters."""
    installed_by: ClassVar[str | None] = None
    """The make target that installs what `fit` needs besides the default installation, such as `keras`."""

    @classmethod
    def resolve(cls, parameters: Parameters) -> dict[str, Parameter]:
        """Return the defaults updated with `parameters`; numbers get the type of their default.

        Raises UnknownParameter, WrongParameter for a value of another type, or BadInput for one out of bounds.
        """
        resolved = dict(cls.parameters)
        for name, value in parameters.items():
            if name not in resolved:
                known = ", ".join(sorted(resolved)) or "none"
                raise UnknownParameter(f"{cls.name} has no parameter {name!r}. Its parameters: {known}.")
            default = resolved[name]
            if not has_type_of(value, default):
                wanted = f"a value of type {type(default).__name__}, such as its default {default!r}"
                raise WrongParameter(f"Parameter {name!r} of {cls.name} takes {wanted}, not {value!r}.")
            bounds = cls.bounds.get(name)
            if bounds is not None and not bounds.allow(value):
                raise BadInput(f"Parameter {name!r} of {cls.name} must be {bounds}, not {value!r}.")
            resolved[name] = type(default)(value)
        return resolved

    @classmethod  # noqa: B027 - most families need nothing more
    def check_trainable(cls) -> None:
        """Raise FamilyNotTrainable, which says what to install, if `fit` cannot run on this machine."""

    @abstractmethod
    def save(self, folder: Path) -> None:
        """Write NumPy arrays and ONNX files into the existing, empty `folder`."""

    @classmethod
    @abstractmethod
    def load(cls, folder: Path) -> Self:
        """Load what `save` wrote. Needs only NumPy, ONNX Runtime and tokenizers."""


class TextModel(Family):
    """A family for titles and descriptions."""

    fast: ClassVar[bool] = False
    """Whether one product takes well under a millisecond, so that serving can stay on the event loop."""

    @classmethod
    @abstractmethod
    def fit(cls, texts: Sequence[ProductText], labels: Labels, fitting: Fitting = DEFAULTS) -> Fitted[Self]:
        """Return the fitted model and held-out probabilities. Raises BadInput for an unknown parameter."""

    @abstractmethod
    def output(self, texts: Sequence[ProductText]) -> ModelOutput:
        """Return calibrated probabilities and features. Each row is independent of the others."""

    def predict_proba(self, texts: Sequence[ProductText]) -> FloatArray:
        """Return calibrated probabilities (n, n_classes)."""
        return self.output(texts).probabilities


class ImageModel(Family):
    """A family for photos."""

    input_size: int
    """Side of the square input, pixels; set on the class, or on the instance if it is a parameter."""

    @classmethod
    @abstractmethod
    def fit(cls, photos: Sequence[Path], labels: Labels, fitting: Fitting = DEFAULTS) -> Fitted[Self]:
        """Return the fitted model and held-out probabilities. Raises BadInput, or NotAnImage, which names the file."""

    @abstractmethod
    def output(self, pixels: Pixels) -> ModelOutput:
        """Return calibrated probabilities and features for pixels (n, size, size, 3) uint8 RGB."""

    def predict_proba(self, pixels: Pixels) -> FloatArray:
        """Return calibrated probabilities (n, n_classes) for pixels (n, size, size, 3) uint8 RGB."""
        return self.output(pixels).probabilities


class Fusion(Family):
    """A method to combine the outputs of text and photo models."""

    needs_features: ClassVar[bool] = False
    """Whether it uses `ModelOutput.features`, which training then computes for all rows."""

    @classmethod
    @abstractmethod
    def fit(
        cls, text: ModelOutput, image: ModelOutput, labels: Labels, fitting: Fitting = DEFAULTS
    ) -> FittedFusion[Self]:
        """Return the fusion fitted on held-out outputs. Rows of a missing modality are NaN.

        Features may be NaN for rows with a single modality.
        """

    @abstractmethod
    def combine(self, text: ModelOutput | None, image: ModelOutput | None) -> FloatArray:
        """Return probabilities (n, n_classes) float32 whose rows sum to 1. At most one of the two is None."""
