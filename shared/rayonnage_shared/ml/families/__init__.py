"""Model families, discovered by file name: `text/tfidf_svm.py` is the text family `tfidf-svm`.

Listing families imports none; importing one loads no training library.
"""

from __future__ import annotations

import importlib
import pkgutil
from typing import TYPE_CHECKING, Any, Literal

from rayonnage_shared.core.errors import BadInput

if TYPE_CHECKING:
    from rayonnage_shared.ml.base.model import Fusion, ImageModel, TextModel

Modality = Literal["text", "image"]
Kind = Literal["text", "image", "fusion"]


class UnknownFamily(BadInput):
    code, title = "unknown_family", "Unknown model family"


def family_names(kind: Kind) -> tuple[str, ...]:
    """Return the names of the families of a kind, in alphabetical order."""
    found = pkgutil.iter_modules(importlib.import_module(f"{__name__}.{kind}").__path__)
    return tuple(sorted(module.name.replace("_", "-") for module in found))


def text_family(name: str) -> type[TextModel]:
    """Return the text family of this name. Raises UnknownFamily."""
    found: type[TextModel] = _family("text", name)
    return found


def image_family(name: str) -> type[ImageModel]:
    """Return the photo family of this name. Raises UnknownFamily."""
    found: type[ImageModel] = _family("image", name)
    return found


def fusion_family(name: str) -> type[Fusion]:
    """Return the fusion of this name. Raises UnknownFamily."""
    found: type[Fusion] = _family("fusion", name)
    return found


def _family(kind: Kind, name: str) -> Any:
    if name not in family_names(kind):
        known = ", ".join(family_names(kind))
        raise UnknownFamily(f"There is no {kind} family {name!r}; known are: {known}.")
    module = importlib.import_module(f"{__name__}.{kind}.{name.replace('-', '_')}")
    for thing in vars(module).values():
        if isinstance(thing, type) and thing.__module__ == module.__name__ and getattr(thing, "name", None) == name:
            return thing
    raise UnknownFamily(f"{module.__name__} has no class with `name = {name!r}`.")
