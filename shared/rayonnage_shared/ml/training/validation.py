"""Checks that a request can be trained, before it is queued or anything is fitted."""

from __future__ import annotations

from typing import TypeVar

from rayonnage_shared.core.errors import BadInput
from rayonnage_shared.ml.base.model import Family, FamilyNotTrainable
from rayonnage_shared.ml.base.parameters import Parameter, UnknownParameter
from rayonnage_shared.ml.catalogue.datasets import DatasetNotFound, DatasetStore
from rayonnage_shared.ml.families import Component, family_class
from rayonnage_shared.ml.training.requests import PipelineRequest, SearchRequest, TrainRequest
from rayonnage_shared.ml.training.search import space_to_search

MIN_TRAIN_ROWS = 20

R = TypeVar("R", bound=PipelineRequest)


class DatasetTooSmall(BadInput):
    code, title = "dataset_too_small", "There is too little to learn from"


def validate_request(request: R, store: DatasetStore, *, may_install: bool = False) -> R:
    """Return the request with the dataset version that it refers to now, whatever is ingested later.

    It is cheap, since it reads only the dataset's manifest, and is called twice: before a request is queued, so that
    the caller learns at once what is wrong, and before it is trained, since the files may have changed meanwhile.

    With `may_install`, a family that cannot be trained here is accepted if `make` can install what it lacks. Raises
    FamilyNotTrainable, UnknownParameter, WrongParameter, BadInput for a parameter out of bounds, NothingToSearch,
    DatasetNotFound or DatasetTooSmall.
    """
    _check_parameters(request.training())
    for family in _families(request.training()).values():
        if not (may_install and family.installed_by):
            family.check_trainable()
    if isinstance(request, SearchRequest):
        space_to_search(family_class(request.component, request.family), request.fixed)
    version = request.dataset_version or store.current()
    if version is None:
        detail = "There is no dataset yet; ingest labelled products first (POST /ingest or `rayonnage ingest`)."
        raise DatasetNotFound(detail)
    dataset = store.describe(version)
    check_size(version, dataset.rows_train, len(dataset.classes))
    return request.model_copy(update={"dataset_version": version})


def missing_installs(request: TrainRequest) -> list[str]:
    """Return the make targets that install what the request's families lack here."""
    targets: list[str] = []
    for family in _families(request).values():
        if family.installed_by is None or family.installed_by in targets:
            continue
        try:
            family.check_trainable()
        except FamilyNotTrainable:
            targets.append(family.installed_by)
    return targets


def check_size(dataset_version: str, rows: int, categories: int) -> None:
    """Raise DatasetTooSmall unless a model can be fitted to `rows` rows of `categories` categories."""
    if rows < MIN_TRAIN_ROWS or categories < 2:
        raise DatasetTooSmall(
            f"Dataset {dataset_version} has {rows} rows of {categories} categories to learn from; ingest at least "
            f"{MIN_TRAIN_ROWS} products of two categories."
        )


def known_parameters(request: TrainRequest) -> dict[str, Parameter]:
    """Return the parameters that the request's families accept, with their defaults.

    Names are dotted, such as `text.penalty`. If only one modality is trained, its bare names are accepted too. The
    parameters of a fusion are always dotted, and accepted only if the request names the fusion's family.
    """
    families = _families(request)
    known = {f"{component}.{name}": one for component, own in families.items() for name, one in own.parameters.items()}
    if (request.text is None) != (request.image is None):
        known |= families["text" if request.text else "image"].parameters
    return known


def _check_parameters(request: TrainRequest) -> None:
    known = known_parameters(request)
    for name in request.parameters:
        if name not in known:
            names = ", ".join(sorted(known)) or "none"
            raise UnknownParameter(f"`{name}` is not a parameter of the chosen families. Known: {names}.")
    for component, family in _families(request).items():
        family.resolve(request.parameters_of(component))


def _families(request: TrainRequest) -> dict[Component, type[Family]]:
    """Return the families that the request names."""
    named: dict[Component, str | None] = {"text": request.text, "image": request.image, "fusion": request.fusion}
    return {component: family_class(component, name) for component, name in named.items() if name is not None}
