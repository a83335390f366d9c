"""Checks what a training is asked for before it is queued, so that a typing error is not found an hour later."""

from __future__ import annotations

import math
from typing import TypeVar

from rayonnage_shared.core.errors import BadInput
from rayonnage_shared.ml.base.model import Family
from rayonnage_shared.ml.catalogue.datasets import DatasetNotFound, DatasetStore
from rayonnage_shared.ml.families import fusion_family, image_family, text_family
from rayonnage_shared.ml.training.requests import ImageTrainRequest, SearchRequest, TextTrainRequest, TrainRequest
from rayonnage_shared.ml.training.search import NothingToSearch

Parameter = float | int | str | bool


class UnknownParameter(BadInput):
    code, title = "unknown_parameter", "There is no such training parameter"


class WrongParameter(BadInput):
    code, title = "wrong_parameter", "A training parameter has a value that it cannot have"


def whole_request(request: TrainRequest | TextTrainRequest | ImageTrainRequest) -> TrainRequest:
    """Return the request for one modality as a request that keeps the champion's model of the other."""
    match request:
        case TextTrainRequest():
            return TrainRequest(**request.model_dump(), image=None)
        case ImageTrainRequest():
            return TrainRequest(**request.model_dump(), text=None)
        case TrainRequest():
            return request


R = TypeVar("R", TrainRequest, SearchRequest)


def with_dataset(request: R, datasets: DatasetStore) -> R:
    """Return the request with the dataset version that it means now, whatever is ingested later.

    Raises DatasetNotFound.
    """
    version = request.dataset_version or datasets.current()
    if version is None:
        raise DatasetNotFound("There is no dataset yet; send labelled products to POST /ingest first.")
    datasets.describe(version)
    return request.model_copy(update={"dataset_version": version})


def check_parameters(request: TrainRequest) -> None:
    """Raise UnknownParameter, WrongParameter or BadInput unless the chosen families take what they are given."""
    known = known_parameters(request)
    for name, value in request.parameters.items():
        if name not in known:
            names = ", ".join(sorted(known)) or "none"
            raise UnknownParameter(f"`{name}` is not a parameter of the chosen families. Known: {names}.")
        if not fits(value, known[name]):
            kind = type(known[name]).__name__
            raise WrongParameter(f"`{name}` takes a value of type {kind}, such as its default {known[name]!r}.")
    for modality, family in _families(request).items():  # each knows what its values may be
        family.resolve(_own(request, modality))


def _families(request: TrainRequest) -> dict[str, type[Family]]:
    """Return the families that the request names, by modality or "fusion"."""
    found: dict[str, type[Family]] = {}
    if request.text is not None:
        found["text"] = text_family(request.text)
    if request.image is not None:
        found["image"] = image_family(request.image)
    if request.fusion is not None:
        found["fusion"] = fusion_family(request.fusion)
    return found


def _own(request: TrainRequest, modality: str) -> dict[str, Parameter]:
    prefix = f"{modality}."
    own = {name.removeprefix(prefix): one for name, one in request.parameters.items() if name.startswith(prefix)}
    if modality != "fusion" and (request.text is None or request.image is None):
        own |= {name: one for name, one in request.parameters.items() if "." not in name}
    return own


def check_search(request: SearchRequest) -> None:
    """Raise UnknownParameter, WrongParameter or NothingToSearch for a search that could not begin."""
    check_parameters(TrainRequest(text=request.text, image=request.image, parameters=request.fixed))
    family = text_family(request.text) if request.text else image_family(str(request.image))
    if not family.search_space.keys() - request.fixed.keys():
        raise NothingToSearch(f"{family.name} has no parameters to search that are not fixed.")


def known_parameters(request: TrainRequest) -> dict[str, Parameter]:
    """Return what may stand in `parameters`, with the defaults.

    Names are dotted, such as `text.penalty`; where only one modality is trained its bare names work too. Those of the
    fusion are always dotted, and known where the request names its family.
    """
    families = _families(request)
    known = {f"{modality}.{name}": one for modality, own in families.items() for name, one in own.parameters.items()}
    if (request.text is None) != (request.image is None):
        known |= families["text" if request.text else "image"].parameters
    return known


def fits(value: Parameter, default: Parameter) -> bool:
    """Return whether `value` has the type of `default`; whole numbers pass as floats, nothing infinite does."""
    if isinstance(default, bool) or isinstance(value, bool):
        return isinstance(default, bool) and isinstance(value, bool)
    if isinstance(default, str) or isinstance(value, str):
        return isinstance(default, str) and isinstance(value, str)
    return math.isfinite(value) and (isinstance(default, float) or isinstance(value, int))
