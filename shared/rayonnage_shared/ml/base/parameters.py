"""Training parameters: the types they have, and checks of their values."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import dataclass

from rayonnage_shared.core.errors import BadInput

Parameter = float | int | str | bool
Parameters = Mapping[str, Parameter]


class UnknownParameter(BadInput):
    code, title = "unknown_parameter", "There is no such training parameter"


class WrongParameter(BadInput):
    code, title = "wrong_parameter", "A training parameter has a value of the wrong type"


@dataclass(frozen=True, slots=True)
class Bounds:
    """The values that a number may have: from `least` to `most`, both included."""

    least: float
    most: float

    def allow(self, value: Parameter) -> bool:
        """Return whether a value lies within the bounds."""
        return not isinstance(value, str) and self.least <= value <= self.most

    def __str__(self) -> str:
        return f"from {self.least:,g} to {self.most:,g}"


@dataclass(frozen=True, slots=True)
class Choice:
    """The values that a parameter may have, one by one."""

    values: tuple[Parameter, ...]

    def allow(self, value: Parameter) -> bool:
        """Return whether a value is one of them."""
        return value in self.values

    def __str__(self) -> str:
        return f"one of {', '.join(map(str, self.values))}"


def has_type_of(value: Parameter, default: Parameter) -> bool:
    """Return whether `value` has the type of `default`; a float takes any finite number, an integer any whole one."""
    if isinstance(default, bool | str) or isinstance(value, bool | str):
        return type(value) is type(default)
    finite = abs(value) <= sys.float_info.max  # an integer may be too large for a float
    return finite and (isinstance(default, float) or int(value) == value)
