"""What a model family is: fit, output (and predict_proba from it), save, load.

Classes are positions in the bundle's tuple of category codes. Probabilities are (n, n_classes) float32 with rows that
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
from rayonnage_shared.ml.base.progress import Progress, silent

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
    """What to fit to: `classes` (n,) positions, `folds` (n,) numbers by which twins stay together.

    Rows of one number in `groups` (n,) are twins; without it each row stands for itself.
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
    """How to fit: parameters that differ from the family's defaults, seed, whom to tell, and where to resume from."""

    parameters: Parameters = field(default_factory=dict)
    seed: int = 0
    progress: Progress = silent
    checkpoints: Path | None = None
    """Existing folder that outlives a killed run; a network leaves there what it has after each epoch."""
    pretrained: Path | None = None
    """Folder of pretrained weights, filled by an operator and by downloads; parameters name files in it, not paths."""


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
    """What a model says of n products: calibrated probabilities (n, n_classes) and features (n, width), both float32.

    Features are what its last layer saw; width is 0 for a family without such a layer. Features of a row that has
    held-out probabilities do not depend on the row's class.
    """

    probabilities: FloatArray
    features: FloatArray


M_co = TypeVar("M_co", covariant=True)


@dataclass(frozen=True)
class Fitted(Generic[M_co]):
    """What `fit` returns."""

    model: M_co
    """Fitted on all rows, or on all but one fold where every further fit would take too long."""
    held_out: FloatArray
    """Calibrated probabilities (n, n_classes) of models that saw neither the row nor its fold; NaN without such."""
    curves: tuple[Curve, ...] = ()
    facts: Mapping[str, Any] = field(default_factory=dict)
    """What the manifest says of this model beyond its parameters, such as where pretrained weights came from."""
    features: FloatArray | None = None
    """The training rows' `ModelOutput.features` where they are at hand; else they are computed when they are needed."""


@dataclass(frozen=True, kw_only=True)
class FittedFusion(Fitted[M_co]):
    """What `Fusion.fit` returns. `held_out` has the rows with both modalities; each table is by unseeing fusions."""

    text_alone: FloatArray
    """Held-out probabilities (n, n_classes) that `combine(text, None)` gives; NaN where there is no text."""
    image_alone: FloatArray
    """Held-out probabilities (n, n_classes) that `combine(None, image)` gives; NaN where there is no photo."""


@dataclass(frozen=True, slots=True)
class Span:
    """Numbers from `low` to `high` that a parameter may be searched among, by orders of magnitude or evenly."""

    low: float
    high: float
    logarithmic: bool = False
    whole: bool = False


@dataclass(frozen=True, slots=True)
class Choice:
    """Values that a parameter may be searched among."""

    values: tuple[float | int | str | bool, ...]


class Family(ABC):
    """What can be fitted, saved and loaded."""

    name: ClassVar[str]
    parameters: ClassVar[Mapping[str, float | int | str | bool]]
    """What `fit` accepts, with the defaults."""
    search_space: ClassVar[Mapping[str, Span | Choice]] = {}
    """Where a search looks for better values of some of the parameters."""

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
        """Return what `save` wrote; needs NumPy, ONNX Runtime and tokenizers only."""


class TextModel(Family):
    """A family for titles and descriptions."""

    fast: ClassVar[bool] = False
    """Whether one product takes well under a millisecond, so that serving need not leave the event loop."""

    @classmethod
    @abstractmethod
    def fit(cls, texts: Sequence[ProductText], labels: Labels, fitting: Fitting = DEFAULTS) -> Fitted[Self]:
        """Return the fitted model and held-out probabilities. Raises BadInput for a parameter it does not know."""

    @abstractmethod
    def output(self, texts: Sequence[ProductText]) -> ModelOutput:
        """Return calibrated probabilities and features, row by row: other rows change nothing."""

    def predict_proba(self, texts: Sequence[ProductText]) -> FloatArray:
        """Return calibrated probabilities (n, n_classes)."""
        return self.output(texts).probabilities


class ImageModel(Family):
    """A family for photos."""

    input_size: int
    """Side of the square input, pixels: of the class, or of the instance where it is a parameter."""

    @classmethod
    @abstractmethod
    def fit(cls, photos: Sequence[Path], labels: Labels, fitting: Fitting = DEFAULTS) -> Fitted[Self]:
        """Return the fitted model and held-out probabilities. Raises BadInput, or NotAnImage naming a bad file."""

    @abstractmethod
    def output(self, pixels: Pixels) -> ModelOutput:
        """Return calibrated probabilities and features for pixels (n, size, size, 3) uint8 RGB."""

    def predict_proba(self, pixels: Pixels) -> FloatArray:
        """Return calibrated probabilities (n, n_classes) for pixels (n, size, size, 3) uint8 RGB."""
        return self.output(pixels).probabilities


class Fusion(Family):
    """A way to put the outputs of text and photo together."""

    needs_features: ClassVar[bool] = False
    """Whether it looks at `ModelOutput.features`, which training then has to gather for all rows."""

    @classmethod
    @abstractmethod
    def fit(
        cls, text: ModelOutput, image: ModelOutput, labels: Labels, fitting: Fitting = DEFAULTS
    ) -> FittedFusion[Self]:
        """Return the fusion fitted on held-out outputs; rows of a modality that a product lacks are NaN.

        Features may be NaN on rows that have one modality only.
        """

    @abstractmethod
    def combine(self, text: ModelOutput | None, image: ModelOutput | None) -> FloatArray:
        """Return probabilities (n, n_classes) float32 whose rows sum to 1; None is a missing modality, not both."""
