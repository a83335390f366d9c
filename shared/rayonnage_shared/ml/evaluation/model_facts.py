"""How a model was fitted: stored beside the model in its bundle, and copied with it into later bundles."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from rayonnage_shared.core.files import write_atomically
from rayonnage_shared.ml.base.model import Curve
from rayonnage_shared.ml.base.parameters import Parameters
from rayonnage_shared.ml.bundles.manifest import FittedModel


@dataclass(frozen=True, slots=True)
class ModelFacts:
    """How one model was fitted; `seconds` is the time it took, None for an older model without a record."""

    family: str
    parameters: Parameters = field(default_factory=dict)
    """Resolved: those of the request, and the family's defaults for the others."""
    seconds: float | None = None
    facts: Mapping[str, Any] = field(default_factory=dict)
    """`Fitted.facts`, such as where pretrained weights came from."""
    curves: tuple[Curve, ...] = ()
    demo: bool | None = None
    """Whether the model was fitted to the demo catalogue; None for a model from before this was kept."""

    def described(self) -> FittedModel:
        """Return the model's entry in the manifest, which leaves out the learning curves."""
        return FittedModel(
            family=self.family,
            parameters=dict(self.parameters),
            seconds=self.seconds,
            demo=self.demo,
            facts=dict(self.facts),
        )

    def save(self, building: Path, model: str) -> None:
        """Write the facts of `model` (text, image or fusion) beside its folder in a bundle."""
        document = asdict(self)
        for curve in document["curves"]:
            curve["figure"] = curve.pop("metric")  # the name in the format on disk and over HTTP
        content = json.dumps(_plain(document), indent=1, ensure_ascii=False)
        write_atomically(facts_path(building, model), content.encode())

    @classmethod
    def load(cls, bundle: Path, model: str, family: str) -> ModelFacts:
        """Return what `save` wrote, or facts with the family alone if there is no file."""
        try:
            document = json.loads(facts_path(bundle, model).read_text(encoding="utf-8"))
        except FileNotFoundError:
            return cls(family)
        curves = tuple(
            Curve(one["figure"], one["axis"], *(_numbers(one[name]) for name in ("x", "train", "held_out")))
            for one in document.pop("curves")
        )
        return cls(**document, curves=curves)


def facts_path(bundle: Path, model: str) -> Path:
    """Return the path of a model's facts in a bundle, whether or not it exists."""
    return bundle / f"{model}.facts.json"


def _numbers(values: list[float | None]) -> tuple[float, ...]:
    return tuple(math.nan if value is None else float(value) for value in values)


def _plain(value: Any) -> Any:
    """Return a value for JSON: no NumPy types, None for a number that is not finite, a string for anything else."""
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, np.ndarray | np.generic):
        return _plain(value.tolist())
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return value if value is None or isinstance(value, bool | int | str) else str(value)
