"""Range checks of a family's parameters."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rayonnage_shared.core.errors import BadInput


def whole_number(parameters: Mapping[str, Any], name: str, least: int, most: int) -> int:
    """Return a parameter that must be a whole number from `least` to `most`; raises BadInput."""
    value = parameters[name]
    if not least <= value <= most or int(value) != value:
        raise BadInput(f"Parameter {name!r} must be a whole number from {least} to {most}, not {value}.")
    return int(value)


def number(parameters: Mapping[str, Any], name: str, least: float, most: float) -> float:
    """Return a parameter that must be a number from `least` to `most`; raises BadInput."""
    value = parameters[name]
    if not least <= value <= most:
        raise BadInput(f"Parameter {name!r} must be a number from {least:g} to {most:g}, not {value}.")
    return float(value)
