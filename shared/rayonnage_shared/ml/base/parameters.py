"""Training parameters: the types they have, and checks of their values."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from rayonnage_shared.core.errors import BadInput

Parameter = float | int | str | bool
Parameters = Mapping[str, Parameter]


class UnknownParameter(BadInput):
    code, title = "unknown_parameter", "There is no such training parameter"


class WrongParameter(BadInput):
    code, title = "wrong_parameter", "A training parameter has a value of the wrong type"


def has_type_of(value: Parameter, default: Parameter) -> bool:
    """Return whether `value` has the type of `default`; a float takes any finite number, an integer any whole one."""
    if isinstance(default, bool | str) or isinstance(value, bool | str):
        return type(value) is type(default)
    return math.isfinite(value) and (isinstance(default, float) or int(value) == value)


def whole_number(parameters: Mapping[str, Any], name: str, least: int, most: int) -> int:
    """Return a parameter that must be a whole number from `least` to `most`. Raises BadInput."""
    value = parameters[name]
    if not least <= value <= most or int(value) != value:
        raise BadInput(f"Parameter {name!r} must be a whole number from {least} to {most}, not {value}.")
    return int(value)


def number(parameters: Mapping[str, Any], name: str, least: float, most: float) -> float:
    """Return a parameter that must be a number from `least` to `most`. Raises BadInput."""
    value = parameters[name]
    if not least <= value <= most:
        raise BadInput(f"Parameter {name!r} must be a number from {least:g} to {most:g}, not {value}.")
    return float(value)
