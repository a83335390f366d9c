"""Model families, discovered by file name: `text/tfidf_svm.py` is the text family `tfidf-svm`.

Listing families imports none; importing one loads no training library.
"""

from __future__ import annotations

import importlib
import pkgutil
from typing import TYPE_CHECKING, Any, Literal

from rayonnage_shared.core.errors import BadInput

if TYPE_CHECKING:
    from rayonnage_shared.ml.base.model import Family, Fusion, ImageModel, TextModel

Component = Literal["text", "image", "fusion"]
"""The models that make up a bundle."""


class UnknownFamily(BadInput):
    code, title = "unknown_family", "Unknown model family"


def family_names(component: Component) -> tuple[str, ...]:
    """Return the names of a component's families, in alphabetical order."""
    found = pkgutil.iter_modules(importlib.import_module(f"{__name__}.{component}").__path__)
    return tuple(sorted(module.name.replace("_", "-") for module in found))


def text_family(name: str) -> type[TextModel]:
    """Return the text family of this name. Raises UnknownFamily."""
    found: type[TextModel] = _find("text", name)
    return found


def image_family(name: str) -> type[ImageModel]:
    """Return the photo family of this name. Raises UnknownFamily."""
    found: type[ImageModel] = _find("image", name)
    return found


def fusion_family(name: str) -> type[Fusion]:
    """Return the fusion of this name. Raises UnknownFamily."""
    found: type[Fusion] = _find("fusion", name)
    return found


def family_class(component: Component, name: str) -> type[Family]:
    """Return the family of this name, whatever its component. Raises UnknownFamily."""
    found: type[Family] = _find(component, name)
    return found


def _find(component: Component, name: str) -> Any:
    if name not in family_names(component):
        known = ", ".join(family_names(component))
        raise UnknownFamily(f"There is no {component} family {name!r}; known are: {known}.")
    module = importlib.import_module(f"{__name__}.{component}.{name.replace('-', '_')}")
    for thing in vars(module).values():
        if isinstance(thing, type) and thing.__module__ == module.__name__ and getattr(thing, "name", None) == name:
            return thing
    raise UnknownFamily(f"{module.__name__} has no class with `name = {name!r}`.")
